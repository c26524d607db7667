"""An episode in a file: its arrays as safetensors, its record as JSON in the header.

The file is written anew after every century, atomically, so that an episode which is stopped goes
on from its last one. While it is unfinished it also holds what the environment goes on from; once
finished, only what happened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from progressgym_env.benchmarks.episodes import EpisodeArrays, EpisodeRecord
from progressgym_env.benchmarks.playing import Unfinished
from progressgym_env.envs.checkpoint import EpisodeState, part_of, prefixed
from progressgym_env.errors import RunFolderError
from progressgym_env.files import write_bytes

__all__ = ["CellFile", "read_cell", "read_score"]

_KEY = "episode"


class CellFile:
    """Where one episode is kept as it is played. Obeys ``Journal``."""

    def __init__(self, path: Path) -> None:
        """Keep the episode in ``path``, which need not exist yet."""
        self._path = path

    def begun(self) -> Unfinished | None:
        """What is there of the episode; None if nothing is."""
        return _read(self._path) if self._path.is_file() else None

    def step(self, unfinished: Unfinished) -> None:
        """Write down a step more."""
        state = unfinished.state
        numbers = None if state is None else state.numbers
        arrays = {} if state is None else prefixed("state", state.arrays)
        self._write(unfinished.record, {"state": numbers}, arrays)

    def finish(self, record: EpisodeRecord) -> None:
        """Write down the whole episode, and nothing else."""
        self._write(record, {}, {})

    def _write(
        self, record: EpisodeRecord, more: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        own = {f.name: getattr(record.arrays, f.name) for f in fields(EpisodeArrays)}
        tensors = {name: np.ascontiguousarray(a) for name, a in {**own, **arrays}.items()}
        # One key alone: the order of several is not fixed, and equal episodes give equal bytes.
        header = {_KEY: record.to_json(**more)}
        try:
            write_bytes(self._path, save(tensors, header))
        except OSError as error:
            raise RunFolderError(
                f"{self._path}: {error.strerror or error}; the run cannot be written down, so it "
                "stops; make room or give it another folder, and go on with --resume: what was "
                "complete is there"
            ) from error


def read_cell(path: Path) -> EpisodeRecord:
    """The episode in a file, with its arrays; its score is None if it is not finished.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    return _read(path).record


def read_score(path: Path) -> float | None:
    """The score in a file; None if the episode is not finished.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    with _opened(path) as file:
        score = _header(path, file).get("score")
    return None if score is None else float(score)


def _read(path: Path) -> Unfinished:
    with _opened(path) as file:
        header = _header(path, file)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    numbers = header.pop("state", None)
    try:
        own = EpisodeArrays(**{f.name: arrays[f.name] for f in fields(EpisodeArrays)})
        record = EpisodeRecord.from_dict(header, own)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, repr(error)) from error
    state = None if numbers is None else EpisodeState(numbers, part_of("state", arrays))
    return Unfinished(record, state)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "numpy")
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{path} is missing; go on with --resume to play that episode again"
        ) from error
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error


def _header(path: Path, file: Any) -> dict[str, Any]:
    try:
        header = json.loads((file.metadata() or {})[_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise _damaged(path, repr(error)) from error
    if not isinstance(header, dict):
        raise _damaged(path, "no record")
    return header


def _damaged(path: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"{path} holds no episode ({why}); it was changed by hand, or another version wrote it: "
        "delete it and go on with --resume, which plays that episode again"
    )
