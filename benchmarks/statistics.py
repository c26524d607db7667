"""Statistics of scores over seeds, challenges and agents: intervals, aggregates, comparisons.

After Agarwal et al. 2021 ("Deep RL at the edge of the statistical precipice", arXiv 2108.13264):
bootstrap intervals, resampled within every challenge; interquartile means; probabilities of
improvement. All of the arithmetic is SciPy's.

Which scores belong together, and what to do about holes, is decided in :mod:`.leaderboard`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from progressgym_env.errors import InvalidArgumentError

__all__ = [
    "Comparison",
    "Estimate",
    "compare",
    "interquartile_mean",
    "mean",
]

FloatArray = NDArray[np.float64]

_N_RESAMPLES, _CONFIDENCE = 4_999, 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap 95% interval.

    Attributes:
        value: the estimate.
        low: lower end; None where there is but one episode a challenge, so nothing to resample.
        high: upper end, likewise.
        n: episodes it is made of.
    """

    value: float
    low: float | None
    high: float | None
    n: int

    def text(self, digits: int = 4) -> str:
        """``0.9545 (0.9520 to 0.9570)``, or the number alone."""
        value = f"{self.value:.{digits}f}"
        if self.low is None or self.high is None:
            return value
        return f"{value} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True)
class Comparison:
    """One agent beside another, over the same challenges and seeds.

    Attributes:
        ahead: mean of the differences of scores, episode by episode.
        improvement: probability that an episode of the first scores more than one of the second,
            ties counting half; averaged over challenges.
    """

    ahead: Estimate
    improvement: Estimate


def mean(samples: Mapping[str, FloatArray], seed: int = 0) -> Estimate:
    """The mean over challenges of the means over seeds.

    Args:
        samples: challenge → (n_seeds,).
        seed: of the resampling.
    """

    def statistic(*parts: FloatArray, axis: int) -> Any:
        return np.mean([part.mean(axis=axis) for part in parts], axis=0)

    return _estimate(statistic, samples, seed)


def interquartile_mean(samples: Mapping[str, FloatArray], seed: int = 0) -> Estimate:
    """The mean of the middle half of all episodes of all challenges; wants a common scale.

    Args:
        samples: challenge → (n_seeds,), skills rather than scores.
        seed: of the resampling.
    """

    def statistic(*parts: FloatArray, axis: int) -> Any:
        return stats.trim_mean(np.concatenate(parts, axis=axis), 0.25, axis=axis)

    return _estimate(statistic, samples, seed)


def compare(
    one: Mapping[str, FloatArray], other: Mapping[str, FloatArray], seed: int = 0
) -> Comparison:
    """One agent's samples beside another's, paired by challenge and seed.

    Args:
        one: challenge → (n_seeds,).
        other: the same challenges and seeds.
        seed: of the resampling.

    Raises:
        InvalidArgumentError: the two are not of the same challenges and numbers of seeds.
    """
    if {k: len(v) for k, v in one.items()} != {k: len(v) for k, v in other.items()}:
        raise InvalidArgumentError(
            "compared agents must have played the same challenges with the same seeds; these have "
            f"{ {k: len(v) for k, v in one.items()} } and { {k: len(v) for k, v in other.items()} }"
        )
    # Pairs are resampled as pairs: an index a challenge, and the statistic looks up both.
    indices = {name: np.arange(len(values), dtype=np.float64) for name, values in one.items()}
    names = list(one)

    def of_pairs(found: Callable[[FloatArray, FloatArray, int], Any]) -> Any:
        def statistic(*parts: FloatArray, axis: int) -> Any:
            rows = [part.astype(np.intp) for part in parts]
            chosen = [(one[name][i], other[name][i]) for name, i in zip(names, rows, strict=True)]
            return np.mean([found(a, b, axis) for a, b in chosen], axis=0)

        return statistic

    ahead = of_pairs(lambda a, b, axis: (a - b).mean(axis=axis))
    return Comparison(_estimate(ahead, indices, seed), _estimate(of_pairs(_above), indices, seed))


def _above(one: FloatArray, other: FloatArray, axis: int) -> Any:
    """P(a > b) + P(a = b) / 2 over all pairs: Mann and Whitney's U, as a share."""
    u = stats.mannwhitneyu(one, other, axis=axis, method="asymptotic").statistic
    return u / (one.shape[axis] * other.shape[axis])


def _estimate(statistic: Any, samples: Mapping[str, FloatArray], seed: int) -> Estimate:
    parts = tuple(np.asarray(values, dtype=np.float64) for values in samples.values())
    value, n = float(statistic(*parts, axis=-1)), sum(map(len, parts))
    if min(map(len, parts)) < 2:
        return Estimate(value, None, None, n)
    found = stats.bootstrap(
        parts,
        statistic,
        n_resamples=_N_RESAMPLES,
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(found.low), float(found.high), n)
