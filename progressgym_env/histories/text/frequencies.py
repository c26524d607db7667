"""How often the words of each value dimension are used, from century to century."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progressgym_env.histories.text.counting import (
    GAP,
    AnalysisSettings,
    TextCounts,
    heads_of,
    sum_by,
)
from progressgym_env.histories.text.lexicon import Lexicon

__all__ = ["Frequencies", "count_values"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Frequencies:
    """How often each dimension's words are used.

    The intervals come from resampling documents. They are few, a dozen or a score a century, and a
    century's are no random sample of what was written: take the intervals for lower bounds.

    Attributes:
        dimensions: m keys of dimensions.
        per_million: n × m, occurrences per million running words.
        low: n × m, 2.5% quantile over resamples; None where a century has one document.
        high: n × m, 97.5% quantile, likewise.
        documents: n, documents of every century.
        n_resamples: of the documents.
    """

    dimensions: tuple[str, ...]
    per_million: tuple[tuple[float, ...], ...]
    low: tuple[tuple[float | None, ...], ...]
    high: tuple[tuple[float | None, ...], ...]
    documents: tuple[int, ...]
    n_resamples: int


def count_values(
    text: TextCounts, lexicon: Lexicon, rng: np.random.Generator, settings: AnalysisSettings
) -> Frequencies:
    """Count every dimension's words.

    Args:
        text: the words.
        lexicon: the value words.
        rng: decides the resamples.
        settings: ``n_resamples`` is used.
    """
    keys, names = tuple(lexicon.words), list(lexicon.dimension_of.values())
    column = np.array([*(keys.index(name) for name in names), GAP])
    dimensions = column[heads_of(text, lexicon)]
    means, lows, highs = [], [], []
    for century in text.centuries:
        counts = sum_by(century.counts, dimensions, len(keys)).astype(np.float64)
        words = np.asarray(century.counts.sum(axis=1), dtype=np.float64)
        means.append(tuple((1e6 * counts.sum(axis=0) / words.sum()).tolist()))
        low, high = _interval(counts, words, rng, settings.n_resamples)
        lows.append(low)
        highs.append(high)
    documents = tuple(len(century.documents) for century in text.centuries)
    return Frequencies(
        keys, tuple(means), tuple(lows), tuple(highs), documents, settings.n_resamples
    )


def _interval(
    counts: FloatArray, words: FloatArray, rng: np.random.Generator, n_resamples: int
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Quantiles of (n_documents, m) counts per million of (n_documents,) words."""
    n = len(words)
    if n < 2:
        nothing: tuple[float | None, ...] = (None,) * counts.shape[1]
        return nothing, nothing
    times = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    # A resample of documents without a word says nothing.
    sums = times @ words
    rates = 1e6 * (times @ counts)[sums > 0] / sums[sums > 0, None]
    low, high = np.quantile(rates, (0.025, 0.975), axis=0)
    return tuple(low.tolist()), tuple(high.tolist())
