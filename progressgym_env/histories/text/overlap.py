"""How far the vocabularies of centuries overlap, at equal sample sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progressgym_env.histories.text.counting import AnalysisSettings, IntArray, TextCounts

__all__ = ["VocabularyOverlap", "compare_vocabularies", "jaccard", "known_share"]

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class VocabularyOverlap:
    """Vocabularies beside one another. Larger samples have more types, so sizes are made equal.

    Attributes:
        sample_words: running words a century in every sample, drawn without putting back.
        n_draws: samples that every number is a mean over.
        types: n, distinct types in a sample.
        jaccard: n × n in [0, 1], types in both samples by types in either; symmetric, 1 on the
            diagonal.
        same_century: n, the same for two samples of one century that share no running word: what
            centuries of the same language would come to. None where it has not words for two.
        known: n × n in [0, 1], the share of running words of century i that the sample of
            century j knows; on the diagonal, of the words outside the sample (1 where there are
            none). 1 − known is the out-of-vocabulary rate.
    """

    sample_words: int
    n_draws: int
    types: tuple[float, ...]
    jaccard: tuple[tuple[float, ...], ...]
    same_century: tuple[float | None, ...]
    known: tuple[tuple[float, ...], ...]

    @property
    def type_token_ratio(self) -> tuple[float, ...]:
        """n, in (0, 1]: types by running words of a sample."""
        return tuple(types / self.sample_words for types in self.types)

    @property
    def out_of_vocabulary(self) -> NDArray[np.float64]:
        """(n, n) in [0, 1]: running words of century i that the sample of century j lacks."""
        return 1.0 - np.array(self.known)


def jaccard(one: BoolArray, other: BoolArray) -> float:
    """Types in both by types in either; 1 where there are none."""
    either = int((one | other).sum())
    return float((one & other).sum() / either) if either else 1.0


def known_share(counts: IntArray, vocabulary: BoolArray) -> float:
    """The share of running words, (n_types,) counts, whose type is in the vocabulary."""
    total = int(counts.sum())
    return float(counts[vocabulary].sum() / total) if total else 1.0


def compare_vocabularies(
    text: TextCounts, rng: np.random.Generator, settings: AnalysisSettings
) -> VocabularyOverlap:
    """Compare the centuries' vocabularies over random samples of their running words.

    Args:
        text: the words.
        rng: decides the samples.
        settings: ``sample_words`` and ``n_draws`` are used.
    """
    totals = [century.totals for century in text.centuries]
    n, size = len(totals), min(settings.sample_words, *(int(t.sum()) for t in totals))
    types, overlap, known = np.zeros(n), np.zeros((n, n)), np.zeros((n, n))
    draws: list[list[float]] = [[] for _ in range(n)]
    for _ in range(settings.n_draws):
        samples = [_sample(counts, size, rng) for counts in totals]
        found = [sample > 0 for sample in samples]
        types += [vocabulary.sum() for vocabulary in found]
        for i, counts in enumerate(totals):
            rest = counts - samples[i]
            if int(rest.sum()) >= size:
                draws[i].append(jaccard(found[i], _sample(rest, size, rng) > 0))
            for j in range(n):
                overlap[i, j] += jaccard(found[i], found[j])
                known[i, j] += known_share(rest if i == j else counts, found[j])
    same = [float(np.mean(values)) if values else None for values in draws]
    means = [(array / settings.n_draws).tolist() for array in (types, overlap, known)]
    return VocabularyOverlap(
        sample_words=size,
        n_draws=settings.n_draws,
        types=tuple(means[0]),
        jaccard=tuple(map(tuple, means[1])),
        same_century=tuple(same),
        known=tuple(map(tuple, means[2])),
    )


def _sample(counts: IntArray, size: int, rng: np.random.Generator) -> IntArray:
    """(n_types,) counts of ``size`` running words, drawn without putting back."""
    places = np.flatnonzero(counts)
    drawn = np.zeros_like(counts)
    drawn[places] = rng.multivariate_hypergeometric(counts[places], size, method="marginals")
    return drawn
