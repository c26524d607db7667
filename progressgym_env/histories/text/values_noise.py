"""Which dimensions of a history's value embedding differ between centuries beyond noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.values.dimensions import DIMENSION_KEYS, N_DIMENSIONS

__all__ = ["DimensionNoise", "differing", "holm"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class DimensionNoise:
    """One dimension over the centuries.

    Attributes:
        dimension: its key.
        low: the smallest value of a century, in [0, 1].
        high: the largest.
        noise: root mean square of the centuries' standard errors.
        statistic: Cochran's Q, chi-square with n − 1 degrees of freedom for equal centuries.
        p_value: of the statistic.
        adjusted: the p-value after Holm's correction for all dimensions.
        differs: whether ``adjusted`` is below the level.
    """

    dimension: str
    low: float
    high: float
    noise: float
    statistic: float
    p_value: float
    adjusted: float
    differs: bool


def differing(
    values: NDArray[Any], standard_errors: NDArray[Any], level: float = 0.05
) -> tuple[DimensionNoise, ...]:
    """Test, for every dimension, whether the centuries can all have the same value.

    The test takes centuries for independent: Q is the sum of squared distances from the weighted
    mean, each by its own squared standard error. They are not independent. Standard errors are
    over questions, and every century was asked the same ones; what makes a question get a high
    score from all models alike is in each standard error, but cancels out of every difference.
    With mean correlation r between centuries' scores of the same questions, equal centuries give
    a Q of about (1 − r)(n − 1) instead of n − 1. Models of one base answer alike, r > 0, so as a
    test of *these models* it is conservative: it misses differences, and what it finds stands.
    (Were r negative, it would find too many.) A test paired over questions would be stronger, but
    records hold only values and standard errors.

    It is not conservative as a test of *centuries*. Neither the draw of documents nor the seed of
    training is in the standard errors: a second model of the same century might differ as much.
    The four world views sum to 1, so theirs are not four separate findings; Holm's correction
    allows for any dependence.

    Args:
        values: (n_centuries, 19), n_centuries ≥ 2.
        standard_errors: (n_centuries, 19), ≥ 0. An error of 0 says that all questions were
            answered alike, not that nothing is uncertain: the dimension's largest takes its place.
        level: in (0, 1), for the verdict.

    Raises:
        InvalidArgumentError: other shapes, or errors that are negative or not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    errors = np.asarray(standard_errors, dtype=np.float64)
    if values.ndim != 2 or values.shape != errors.shape or values.shape[1] != N_DIMENSIONS:
        raise InvalidArgumentError(
            f"values {values.shape} and standard_errors {errors.shape} must both be "
            f"(n_centuries, {N_DIMENSIONS})"
        )
    if len(values) < 2:
        raise InvalidArgumentError(f"{len(values)} century: two or more can differ")
    if not (np.isfinite(values).all() and np.isfinite(errors).all() and (errors >= 0).all()):
        raise InvalidArgumentError("values and standard errors must be finite, errors at least 0")
    noise = np.sqrt((errors**2).mean(axis=0))
    statistics = _cochran(values, np.where(errors > 0, errors, errors.max(axis=0)))
    p_values = stats.chi2.sf(statistics, len(values) - 1)
    adjusted = holm(p_values)
    return tuple(
        DimensionNoise(
            dimension=key,
            low=float(values[:, i].min()),
            high=float(values[:, i].max()),
            noise=float(noise[i]),
            statistic=float(statistics[i]),
            p_value=float(p_values[i]),
            adjusted=float(adjusted[i]),
            differs=bool(adjusted[i] < level),
        )
        for i, key in enumerate(DIMENSION_KEYS)
    )


def _cochran(values: FloatArray, errors: FloatArray) -> FloatArray:
    """(m,) Q of (n, m) values. Where no error is known, 0 for equal values and ∞ for others."""
    known = errors.max(axis=0) > 0
    weights = 1.0 / np.where(known, errors, 1.0) ** 2
    mean = (weights * values).sum(axis=0) / weights.sum(axis=0)
    found = (weights * (values - mean) ** 2).sum(axis=0)
    certain = np.where(np.ptp(values, axis=0) > 0, np.inf, 0.0)
    result: FloatArray = np.where(known, found, certain)
    return result


def holm(p_values: FloatArray) -> FloatArray:
    """(m,) p-values, adjusted for their number (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted
