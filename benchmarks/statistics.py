"""Statistics of scores over seeds, challenges and agents: intervals, aggregates, comparisons.

After Agarwal et al. 2021 ("Deep RL at the edge of the statistical precipice", arXiv 2108.13264):
bootstrap intervals, resampled within every challenge; interquartile means; probabilities of
improvement. All of the arithmetic is SciPy's.

Scores come as a mapping of cells, (agent, challenge, seed), and nothing is averaged over a hole:
what is incomplete is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.scoring import skill

__all__ = [
    "ScoreCell",
    "Comparison",
    "Estimate",
    "compare",
    "interquartile_mean",
    "mean",
    "scores_of",
    "skills_of",
]

ScoreCell = tuple[str, str, int]
"""Agent, challenge and seed of one episode."""

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


def scores_of(
    scores: Mapping[ScoreCell, float], agent: str, challenges: Sequence[str], seeds: Sequence[int]
) -> dict[str, FloatArray]:
    """Challenge → (n_seeds,) scores of one agent.

    Raises:
        InvalidArgumentError: an episode is missing; names it.
    """
    found = {}
    for challenge in challenges:
        cells = [(agent, challenge, seed) for seed in seeds]
        missing = [seed for *_, seed in (cell for cell in cells if cell not in scores)]
        if missing:
            raise InvalidArgumentError(
                f"{agent} on {challenge}: no score for seed {', '.join(map(str, missing))}; a mean "
                "over the others would flatter or harm it, so finish these episodes, or leave the "
                "agent or the seeds out for all"
            )
        found[challenge] = np.array([scores[cell] for cell in cells], dtype=np.float64)
    if not found or not seeds:
        raise InvalidArgumentError("no challenges or no seeds: there is nothing to average")
    return found


def skills_of(
    scores: Mapping[ScoreCell, float],
    agent: str,
    challenges: Sequence[str],
    seeds: Sequence[int],
    *,
    hold: str = "hold",
    oracle: str = "oracle",
) -> dict[str, FloatArray]:
    """Challenge → (n_seeds,) skills: 0 is ``hold``'s, 1 the ``oracle``'s, each over all seeds.

    The scale of a challenge is the mean of the two references, so that no single seed on which
    they happen to lie close together decides.

    Raises:
        InvalidArgumentError: an episode is missing, also of the references, or the oracle is not
            ahead of hold.
    """
    own, low, high = (scores_of(scores, name, challenges, seeds) for name in (agent, hold, oracle))
    return {
        name: np.asarray(skill(own[name], low[name].mean(), high[name].mean()))
        for name in challenges
    }


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
