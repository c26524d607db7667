"""The folder of a run: what was asked for, what came out, and nothing half-written.

===================  ==========================================================================
``config.json``      the matrix, seeds, versions and hashes: all it takes to run it again
``episodes.jsonl``   one line a finished episode, in the order of the matrix; the same seed gives
                     the same bytes, so it holds no clock times
``cells/*``          a file an episode, written after every century: its record, its actions and
                     the log-probabilities behind every embedding
``timings.json``     seconds, by episode and phase
``failures.json``    episodes that came to no end, and why; only where there are any
``summary.json``     ``status`` (running, complete, failed, interrupted) and the table
``trajectories.*``   pictures, as PNG and SVG
``worker-*.log``     what the processes printed; only where they did
``run.lock``         held by the run that is under way
===================  ==========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from progressgym_env.benchmarks.cell_file import read_cell, read_score
from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.benchmarks.matrix import KEPT_OF_MACHINE, OF_MACHINE, Cell, Matrix
from progressgym_env.benchmarks.pool import Failure
from progressgym_env.errors import ProgressGymError, RunFolderError
from progressgym_env.files import file_hash, write_json, write_text

__all__ = [
    "CONFIG_FILE",
    "EPISODES_FILE",
    "RunFolder",
    "arguments_of",
    "matrix_of",
    "read_config",
    "read_episodes",
    "read_lines",
]

CONFIG_FILE, EPISODES_FILE = "config.json", "episodes.jsonl"
_CELLS, _TIMINGS, _FAILURES, _SUMMARY = "cells", "timings.json", "failures.json", "summary.json"


class RunFolder:
    """A run folder, new or old, and what of its matrix is done."""

    def __init__(self, path: Path, cells: Sequence[Cell]) -> None:
        """See what is there of ``cells`` in ``path``; nothing is written yet.

        Raises:
            RunFolderError: a file of an episode is damaged.
        """
        self.path = path
        self.cells = tuple(cells)
        self.scores: dict[Cell, float] = {}
        self.failures: dict[Cell, Failure] = {}
        self.timings: dict[Cell, dict[str, Any]] = {}
        width = len(str(len(self.cells)))
        self._files = {
            cell: path / _CELLS / f"{number:0{width}d}-{cell.slug[:100]}.safetensors"
            for number, cell in enumerate(self.cells, start=1)
        }
        # How many cells, in order, have had their turn in episodes.jsonl.
        self._n_listed = 0

    @classmethod
    def new(cls, path: Path, cells: Sequence[Cell], config: Mapping[str, Any]) -> Self:
        """A folder for a new run: writes ``config.json`` into the existing ``path``."""
        (path / _CELLS).mkdir()
        write_json(path / CONFIG_FILE, dict(config))
        return cls(path, cells)

    @classmethod
    def old(cls, path: Path, cells: Sequence[Cell]) -> Self:
        """The folder of a run that is to go on; what it holds is read, and listed anew."""
        folder = cls(path, cells)
        (path / _CELLS).mkdir(exist_ok=True)
        for temporary in (*path.glob(".*.tmp*"), *(path / _CELLS).glob(".*.tmp*")):
            temporary.unlink()
        for entry in _read_list(path / _TIMINGS):
            cell = Cell(**entry.pop("cell"))
            folder.timings[cell] = entry
        for cell, file in folder._files.items():
            if file.is_file() and (score := read_score(file)) is not None:
                folder.scores[cell] = score
        folder.list_all()
        (path / _FAILURES).unlink(missing_ok=True)
        return folder

    @property
    def open_cells(self) -> tuple[Cell, ...]:
        """Cells without a score, in order."""
        return tuple(cell for cell in self.cells if cell not in self.scores)

    def file_of(self, cell: Cell) -> Path:
        """Where an episode is kept."""
        return self._files[cell]

    def episode(self, cell: Cell) -> EpisodeRecord:
        """A finished episode."""
        return read_cell(self._files[cell])

    def add(self, cell: Cell, score: float, timing: Mapping[str, Any]) -> None:
        """Take in an episode whose file is complete."""
        self.scores[cell] = score
        self.timings[cell] = dict(timing)
        self._list_more()
        self._write_timings()

    def add_failure(self, cell: Cell, failure: Failure) -> None:
        """Write down why an episode came to no end."""
        self.failures[cell] = failure
        failures = [
            {"cell": asdict(cell), **asdict(self.failures[cell])}
            for cell in self.cells
            if cell in self.failures
        ]
        write_json(self.path / _FAILURES, failures)
        self._list_more()

    def list_all(self) -> None:
        """Write ``episodes.jsonl`` as a whole, with every finished episode."""
        finished = [cell for cell in self.cells if cell in self.scores]
        write_text(self.path / EPISODES_FILE, "".join(map(self._line, finished)))
        done = self.scores.keys() | self.failures.keys()
        self._n_listed = next(
            (n for n, cell in enumerate(self.cells) if cell not in done), len(self.cells)
        )

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        write_json(self.path / _SUMMARY, dict(summary))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder; the system lets go however this process ends.

        Raises:
            RunFolderError: another run is under way here.
        """
        # Imported here: only runs need it.
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / "run.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunFolderError(
                f"{self.path} is in use: another run is under way there; wait for its end, or "
                "give another folder"
            ) from error
        try:
            yield
        finally:
            # The file stays: taking it away could take it from under the next one to lock it.
            lock.release()

    def _line(self, cell: Cell) -> str:
        file = self._files[cell]
        arrays = {"file": f"{_CELLS}/{file.name}", "sha256": file_hash(file)}
        return self.episode(cell).to_json(arrays=arrays) + "\n"

    def _list_more(self) -> None:
        """Append the episodes whose turn has come; others wait in their own files."""
        lines = []
        while self._n_listed < len(self.cells):
            cell = self.cells[self._n_listed]
            if cell not in self.scores and cell not in self.failures:
                break
            if cell in self.scores:
                lines.append(self._line(cell))
            self._n_listed += 1
        if lines:
            with (self.path / EPISODES_FILE).open("a", encoding="utf-8", newline="") as file:
                file.write("".join(lines))

    def _write_timings(self) -> None:
        timings = [
            {"cell": asdict(cell), **self.timings[cell]}
            for cell in self.cells
            if cell in self.timings
        ]
        write_json(self.path / _TIMINGS, timings)


def read_config(path: str | Path) -> dict[str, Any]:
    """What ``config.json`` of a run folder says.

    Raises:
        RunFolderError: ``path`` is no run folder, or the file is damaged.
    """
    file = Path(path) / CONFIG_FILE
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunFolderError(
            f"{path} is no run folder: it has no {CONFIG_FILE}; give one that `progressgym run` or "
            "`progressgym bench` made"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{file} is damaged ({error}); start a new run") from error
    if not isinstance(config, dict) or not isinstance(config.get("arguments"), dict):
        raise RunFolderError(f"{file} does not say what was played; start a new run")
    return config


def matrix_of(config: Mapping[str, Any]) -> Matrix:
    """The matrix that a ``config.json`` tells of.

    Raises:
        RunFolderError: it is none.
    """
    try:
        # A history's own name says what it is, not where it lies; likewise questions.
        told = config["history"]
        asked = told.get("questions_asked_for")
        return Matrix.from_dict(arguments_of(config, told["asked_for"], asked))
    except (ProgressGymError, AttributeError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{CONFIG_FILE} tells of no matrix that can be played here: {error}"
        ) from error


def arguments_of(
    config: Mapping[str, Any], history: str, questions: str | None = None
) -> dict[str, Any]:
    """What ``Matrix.from_dict`` takes, as a ``config.json`` says it, of the ``history`` there."""
    asked = {} if questions is None else {"questions": questions}
    of_machine = {key: config[key] for key in KEPT_OF_MACHINE if key in config}
    # A folder may be a stranger's: what is not kept there is not taken from there.
    left_out = (*OF_MACHINE, "launched", "questions")
    arguments = {key: value for key, value in config["arguments"].items() if key not in left_out}
    return {**arguments, **of_machine, **asked, "history": history}


def read_episodes(path: str | Path) -> tuple[EpisodeRecord, ...]:
    """The finished episodes of the run folder ``path``, in order and without their arrays.

    Raises:
        RunFolderError: ``path`` is no run folder, or a line is no episode.
    """
    read_config(path)
    return tuple(EpisodeRecord.from_dict(raw) for raw, _ in read_lines(path))


def read_lines(path: str | Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Of every line of ``episodes.jsonl``, the record and what is said of its arrays' file.

    Raises:
        RunFolderError: a line is no episode.
    """
    file = Path(path) / EPISODES_FILE
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            raw = json.loads(line)
            arrays = raw.pop("arrays")
            EpisodeRecord.from_dict(raw)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            torn = not line.endswith("\n")
            why = "the line is torn: the run was stopped while it wrote" if torn else repr(error)
            raise RunFolderError(
                f"{file}:{number}: no episode ({why}); `progressgym bench --resume --out {path}` "
                "writes the file anew from the episodes' own files"
            ) from error
        yield raw, arrays


def _read_list(file: Path) -> list[dict[str, Any]]:
    """A list that was written down; empty where it is missing. Times alone are not worth a stop."""
    if not file.is_file():
        return []
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{file} is damaged ({error}); delete it and go on") from error
    return list(entries)
