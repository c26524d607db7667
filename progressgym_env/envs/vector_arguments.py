"""Checks of what users hand to a vector environment, besides what single ones take as well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from progressgym_env.arguments import check_choice
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.values.choosing import Questions

__all__ = ["autoreset_mode_of", "batchable", "masked", "refuse_rendering", "row_seeds"]


def autoreset_mode_of(mode: str | AutoresetMode) -> AutoresetMode:
    """The mode that is meant, by its name or as Gymnasium's own."""
    names = [known.value for known in AutoresetMode]
    return AutoresetMode(check_choice("autoreset_mode", getattr(mode, "value", mode), names))


def batchable(
    history: str | Path | History | SimulatedHistories, questions: Questions | None
) -> SimulatedHistories:
    """The source of simulated histories that is meant.

    Raises:
        InvalidArgumentError: its models are trained one at a time.
    """
    loaded = load(history, questions)
    if isinstance(loaded, SimulatedHistories):
        return loaded
    raise InvalidArgumentError(
        f"history {loaded.name!r} has models that are trained one at a time and cannot be batched; "
        "give history='simulated', or gymnasium.make_vec(..., vectorization_mode='sync') for one "
        "environment after another"
    )


def refuse_rendering(render_mode: str | None) -> None:
    """Raise where pictures are asked for.

    Raises:
        InvalidArgumentError: they are.
    """
    if render_mode is not None:
        raise InvalidArgumentError(
            f"render_mode={render_mode!r}: vector environments do not render; render one "
            "episode with gymnasium.make(..., render_mode=...) and the same seed"
        )


def masked(mask: object, n: int) -> NDArray[np.intp]:
    """The rows in a mask, all ``n`` where there is none.

    Raises:
        InvalidArgumentError: it is no mask of ``n`` rows, or leaves out all.
    """
    if mask is None:
        return np.arange(n)
    if not (isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (n,)):
        raise InvalidArgumentError(
            f"reset_mask={mask!r} must be a boolean array of shape ({n},), one entry a row"
        )
    if not mask.any():
        raise InvalidArgumentError("reset_mask is all False; set at least one row to True")
    return np.flatnonzero(mask)


def row_seeds(seed: object, n: int) -> list[int | None]:
    """The seed of every row, None where its generator goes on.

    Raises:
        InvalidArgumentError: no seeds, or not as many.
    """
    if seed is None:
        return [None] * n
    given = seed.tolist() if isinstance(seed, np.ndarray) else seed
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        first = _checked_seed("seed", given)
        return [first + row for row in range(n)]
    if len(given) != n:
        raise InvalidArgumentError(
            f"{len(given)} seeds for {n} environments; give one a row, or one number, which row i "
            "is added to"
        )
    return [None if s is None else _checked_seed(f"seed[{i}]", s) for i, s in enumerate(given)]


def _checked_seed(name: str, seed: object) -> int:
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0:
        return int(seed)
    raise InvalidArgumentError(
        f"{name}={seed!r} is no seed; give an integer, 0 or more, or a list of one a row, with "
        "None for a row whose generator is to go on"
    )
