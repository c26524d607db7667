"""Random words, and uniform and normal numbers out of them, for whoever needs millions a second.

Sixteen bits of a word make a number. That is coarse (steps of 1/65536; normal numbers end at ±4.3)
and enough for rounding, choices and noise, and costs a fraction of drawing each number from a
``Generator``.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["ONE", "PER_WORD", "normal", "uniform", "words_of"]

PER_WORD = 4
"""Numbers that one 64-bit word makes, through ``words.view(numpy.uint16)``."""

ONE = 1 << 16
"""Sixteen bits count from 0 to this, exclusive."""


# SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the step between states, and the mixing.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIXING = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


def words_of(keys: NDArray[np.uint64], n_words: int) -> NDArray[np.uint64]:
    """(n, ``n_words``) random words, a row a key: SplitMix64, started at the key's own hash.

    Equal keys give equal words, and rows depend on nothing else. NumPy's own generators take a call
    a key, which is most of the time that drawing a simulated history would take.
    """
    starts = _mixed(np.asarray(keys, dtype=np.uint64) * _STEP + _STEP)
    states = np.arange(1, n_words + 1, dtype=np.uint64) * _STEP
    return _mixed(starts[:, None] + states)


def _mixed(states: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of every word, which no two words share."""
    for shift, factor in _MIXING:
        states ^= states >> np.uint64(shift)
        states *= factor
    states ^= states >> np.uint64(31)
    return states


def uniform(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Numbers evenly spread over (0, 1): (b + 1/2) / 65536."""
    spread = np.multiply(bits, np.float32(1 / ONE), dtype=np.float32)
    spread += np.float32(0.5 / ONE)
    return spread


def normal(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Standard normal numbers: the quantiles of ``uniform``."""
    numbers: NDArray[np.float32] = np.take(_quantiles(), bits)
    return numbers


@cache
def _quantiles() -> NDArray[np.float32]:
    inverse = NormalDist().inv_cdf
    upper = np.array([inverse((i + 0.5) / ONE) for i in range(ONE // 2, ONE)])
    table = np.concatenate([-upper[::-1], upper])
    # Quantiles of a coarse grid spread a little less than the distribution itself.
    return np.asarray(table / table.std(), dtype=np.float32)
