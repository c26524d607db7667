"""Values as logits, and how training pairs bear on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from progressgym_env.values.dimensions import N_DIMENSIONS, N_TWO_WAY, dimension_index
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.questions import Pair

__all__ = ["EDGE", "from_logits", "log_odds", "pair_directions"]

EDGE = 0.01
"""Probabilities this close to 0 or 1 count as that far: beyond, logits only amplify noise."""


def log_odds(values: ArrayLike) -> FloatArray:
    """(..., 19) log-odds of two-way dimensions and log-probabilities of world views.

    Values are clipped to [0.01, 0.99] first.
    """
    clipped = np.clip(np.asarray(values, dtype=np.float64), EDGE, 1.0 - EDGE)
    result = np.log(clipped)
    result[..., :N_TWO_WAY] -= np.log1p(-clipped[..., :N_TWO_WAY])
    return result


def from_logits(logits: ArrayLike) -> FloatArray:
    """(..., 19) float64 values of log-odds of two-way dimensions and log-weights of world views.

    Logits in float32 are worked on in float32, which is half the work.
    """
    given = np.asarray(logits)
    if given.dtype != np.float32:
        given = given.astype(np.float64)
    # Over all nineteen in one go, and the views again: passes over parts of rows are slow.
    result = given * 0.5
    np.tanh(result, out=result)
    result += 1.0
    result *= 0.5
    views = np.ascontiguousarray(given[..., N_TWO_WAY:])
    views = np.exp(views - views.max(axis=-1, keepdims=True))
    views /= views.sum(axis=-1, keepdims=True)
    result[..., N_TWO_WAY:] = views
    return np.asarray(result, dtype=np.float64)


def pair_directions(pairs: Sequence[Pair]) -> FloatArray:
    """(n_pairs, 19), how preferring each pair's first option moves the dimensions, up to scale.

    A two-way pair shares a weight of 1 among the dimensions it bears on; a world-view pair counts
    +1 for one view and -1 for the other.
    """
    return np.stack([_direction(pair) for pair in pairs])


def _direction(pair: Pair) -> FloatArray:
    direction = np.zeros(N_DIMENSIONS)
    for key, option in pair.question.upholds.items():
        if option == pair.first:
            direction[dimension_index(key)] = 1.0
        elif option == pair.second:
            direction[dimension_index(key)] = -1.0
    if pair.question.is_view:
        return direction
    return np.asarray(direction / np.abs(direction).sum())
