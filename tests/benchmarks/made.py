"""Cells and episodes made up for tests of what is done with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from progressgym_env.benchmarks.cell_file import CellFile
from progressgym_env.benchmarks.episodes import EpisodeArrays, EpisodeRecord
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.run_folder import RunFolder


def cell(agent: str, seed: int = 0, challenge: str = "coevolve", **changes: str | int) -> Cell:
    return replace(Cell(challenge, "dpo", "current", 1, agent, seed), **changes)


def no_arrays(n_steps: int, n_pairs: int = 2) -> EpisodeArrays:
    """Of an episode without log-probabilities."""
    numbers = np.zeros((n_steps, n_pairs), dtype=np.float32)
    none, rows = np.zeros((0, 0), dtype=np.float32), np.full(n_steps, -1, dtype=np.int32)
    return EpisodeArrays(numbers, numbers, none, rows, none, rows)


def put(folder: RunFolder, where: Cell, record: EpisodeRecord) -> None:
    """Put a finished episode into a run folder, as a worker and the run would."""
    whole = replace(record, arrays=no_arrays(len(record.steps)))
    CellFile(folder.file_of(where)).finish(whole)
    assert record.score is not None
    folder.add(where, record.score, {"seconds": 1.0, "phases": {}})
