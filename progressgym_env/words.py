"""Uniform and normal numbers out of raw random words, for whoever needs millions a second.

One call to a bit generator gives all the words of an episode; sixteen bits of them make a number.
That is coarse (steps of 1/65536; normal numbers end at ±4.3) and enough for rounding, choices and
noise, and costs a fraction of drawing each number from a ``Generator``.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["ONE", "PER_WORD", "normal", "uniform"]

PER_WORD = 4
"""Numbers that one 64-bit word makes, through ``words.view(numpy.uint16)``."""

ONE = 1 << 16
"""Sixteen bits count from 0 to this, exclusive."""


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
