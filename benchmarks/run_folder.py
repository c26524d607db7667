"""The folder of a run: what was asked for, what came out, and nothing half-written.

==================  ===========================================================================
``config.json``     arguments, seeds, versions and hashes: all it takes to run it again
``episodes.jsonl``  one line a finished episode, agents in the order asked for, then seeds;
                    the same seed gives the same bytes, so it holds no clock times
``timings.json``    seconds, by agent and seed
``failures.json``   episodes that came to no end, and why; only where there are any
``summary.json``    ``status`` (running, complete, failed, interrupted) and the table
``trajectories.*``  the picture, as PNG and SVG
``worker-*.log``    what the processes printed; only where they did
==================  ===========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.benchmarks.pool import Failure
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import write_json, write_text

__all__ = ["Cell", "RunFolder", "read_episodes"]

Cell = tuple[str, int]
"""One episode of a run: the agent's name and the seed."""


class RunFolder:
    """Writes a run folder; every file is replaced as a whole, whenever an episode ends."""

    def __init__(self, path: Path, cells: tuple[Cell, ...], config: Mapping[str, Any]) -> None:
        """Write ``config.json``.

        Args:
            path: an existing folder.
            cells: the episodes of the run, in the order of the lines of ``episodes.jsonl``.
            config: goes to ``config.json``.
        """
        self.path = path
        self.episodes: dict[Cell, EpisodeRecord] = {}
        self.failures: dict[Cell, Failure] = {}
        self.seconds: dict[Cell, float] = {}
        self._cells = cells
        write_json(path / "config.json", dict(config))

    def add(self, cell: Cell, episode: EpisodeRecord, seconds: float) -> None:
        """Write down a finished episode."""
        self.episodes[cell] = episode
        self.seconds[cell] = seconds
        lines = [self.episodes[c].to_json() + "\n" for c in self._cells if c in self.episodes]
        write_text(self.path / "episodes.jsonl", "".join(lines))
        timings = [
            {"agent": agent, "seed": seed, "seconds": round(self.seconds[agent, seed], 3)}
            for agent, seed in self._cells
            if (agent, seed) in self.seconds
        ]
        write_json(self.path / "timings.json", timings)

    def add_failure(self, cell: Cell, failure: Failure) -> None:
        """Write down why an episode came to no end."""
        self.failures[cell] = failure
        failures = [
            {"agent": agent, "seed": seed, **asdict(self.failures[agent, seed])}
            for agent, seed in self._cells
            if (agent, seed) in self.failures
        ]
        write_json(self.path / "failures.json", failures)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        write_json(self.path / "summary.json", dict(summary))


def read_episodes(path: str | Path) -> tuple[EpisodeRecord, ...]:
    """The finished episodes of the run folder ``path``, in order; empty if none has ended yet.

    Raises:
        InvalidArgumentError: ``path`` is no run folder, or a line is no episode.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise InvalidArgumentError(
            f"{folder} is no run folder: it has no config.json; give one that `progressgym run` "
            "made"
        )
    file = folder / "episodes.jsonl"
    if not file.is_file():
        return ()
    episodes = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            episodes.append(EpisodeRecord.from_json(line))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InvalidArgumentError(
                f"{file}:{number}: no episode ({error!r}); the line was changed by hand, "
                "or another version wrote it"
            ) from error
    return tuple(episodes)
