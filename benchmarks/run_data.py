"""A run folder as it stands, read and never written: what a report is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from progressgym_env.benchmarks.cell_file import read_cell, read_score
from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.benchmarks.matrix import Cell, Matrix
from progressgym_env.benchmarks.pool import Failure
from progressgym_env.benchmarks.run_folder import RunFolder, matrix_of, read_config, read_lines
from progressgym_env.errors import HistoryError, ProgressGymError, RunFolderError
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load, load_one

__all__ = ["RunData", "load_run"]

_FAILURES, _SUMMARY = "failures.json", "summary.json"


@dataclass(frozen=True, eq=False)
class RunData:
    """What a run folder holds.

    Attributes:
        path: the folder.
        config: its ``config.json``.
        matrix: what was to be played.
        cells: all episodes of the matrix, in order.
        episodes: those that are finished, in order.
        failures: those that came to no end, in order, and why.
        status: ``summary.json``'s; None where there is no such file.
        histories: seed → the history played with it; empty where it is not to be had any more.
        no_history: why it is not; None where it is.
    """

    path: Path
    config: Mapping[str, Any]
    matrix: Matrix
    cells: tuple[Cell, ...]
    episodes: Mapping[Cell, EpisodeRecord]
    failures: Mapping[Cell, Failure]
    status: str | None = None
    histories: Mapping[int, History] = field(default_factory=dict)
    no_history: str | None = None

    @property
    def history(self) -> History | None:
        """The history; of simulated ones, that of the first seed."""
        return self.histories.get(self.matrix.seeds[0])

    @property
    def one_history(self) -> bool:
        """Whether all seeds played the same history."""
        return len({id(history) for history in self.histories.values()}) <= 1

    @property
    def scores(self) -> dict[Cell, float]:
        """Official scores of the finished episodes."""
        return {cell: e.score for cell, e in self.episodes.items() if e.score is not None}

    @property
    def centuries(self) -> tuple[str, ...]:
        """Names of the centuries, oldest first; empty where they are not known."""
        if self.history is not None:
            return self.history.names
        return tuple(map(str, _part(self.config, "history").get("centuries", ())))


def load_run(path: str | Path) -> RunData:
    """Read the run folder ``path``, complete or not, also while the run is under way.

    Raises:
        RunFolderError: ``path`` is no run folder, or something in it is damaged.
    """
    folder = Path(path)
    config = read_config(folder)
    matrix = matrix_of(config)
    cells = matrix.cells
    episodes = _episodes(folder, cells)
    failures = _failures(folder, cells)
    histories, why = _histories(config, matrix)
    return RunData(
        path=folder,
        config=config,
        matrix=matrix,
        cells=cells,
        episodes=episodes,
        failures={c: failures[c] for c in cells if c in failures and c not in episodes},
        status=_status(folder),
        histories=histories,
        no_history=why,
    )


def _episodes(folder: Path, cells: tuple[Cell, ...]) -> dict[Cell, EpisodeRecord]:
    """From the list of the finished ones; whose turn there has not come, from their own files."""
    known = set(cells)
    found: dict[Cell, EpisodeRecord] = {}
    for raw, _ in read_lines(folder):
        record = EpisodeRecord.from_dict(raw)
        cell = Cell(
            record.challenge,
            record.update,
            record.update_from,
            record.steps_ahead,
            record.agent,
            record.seed,
        )
        if cell not in known:
            raise RunFolderError(
                f"{folder} lists an episode that is none of its matrix ({cell.slug}); files of two "
                "runs were mixed there: give a folder as a run left it"
            )
        if record.score is not None:
            found[cell] = record
    files = RunFolder(folder, cells)
    for cell in cells:
        file = files.file_of(cell)
        if cell not in found and file.is_file() and read_score(file) is not None:
            found[cell] = read_cell(file)
    return {cell: found[cell] for cell in cells if cell in found}


def _failures(folder: Path, cells: tuple[Cell, ...]) -> dict[Cell, Failure]:
    file = folder / _FAILURES
    if not file.is_file():
        return {}
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        found = {Cell(**entry.pop("cell")): Failure(**entry) for entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunFolderError(
            f"{file} is damaged ({error!r}); delete it, and go on with --resume to see what fails"
        ) from error
    return {cell: failure for cell, failure in found.items() if cell in set(cells)}


def _status(folder: Path) -> str | None:
    """Only said beside what is there, so a summary that cannot be read is not worth a stop."""
    try:
        summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(summary["status"]) if isinstance(summary, dict) and "status" in summary else None


def _histories(config: Mapping[str, Any], matrix: Matrix) -> tuple[dict[int, History], str | None]:
    """The history of every seed, or why there is none; an older or newer one will not do."""
    try:
        loaded = load(matrix.history, matrix.questions)
        found = {seed: load_one(loaded, seed) for seed in matrix.seeds}
        first = found[matrix.seeds[0]]
        if first.digest != config.get("history_digest"):
            raise HistoryError(f"{matrix.history!r} has changed since it was played")
    except ProgressGymError as error:
        return {}, str(error)
    return found, None


def _part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = config.get(key)
    return part if isinstance(part, Mapping) else {}
