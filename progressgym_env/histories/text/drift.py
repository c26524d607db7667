"""Whether the company that value words keep changes from century to century.

Meaning is read off company: a word's vector holds the positive pointwise mutual information of the
word with every context, a context being a word that all centuries have (Church and Hanks 1990;
Levy, Goldberg and Dagan 2015). Two centuries' vectors always differ, if only because their
documents do. What two halves of one century's documents share is therefore the measure: all vectors
are of half a century, so that both kinds of cosines are of vectors that are equally noisy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from progressgym_env.histories.text.counting import (
    GAP,
    AnalysisSettings,
    CenturyCounts,
    IntArray,
    TextCounts,
    heads_of,
    sum_by,
)
from progressgym_env.histories.text.lexicon import Lexicon, fold

__all__ = [
    "MeanChange",
    "MeaningDrift",
    "WordDrift",
    "compare_meanings",
    "context_counts",
    "positive_pmi",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class WordDrift:
    """One value word through the centuries. None marks centuries where it is too rare, or that
    have one document.

    Attributes:
        word: the headword; its forms and spellings are counted together.
        dimension: the key of its dimension.
        counts: n, occurrences.
        within: n, cosine between the two halves of a century's documents: what is left of 1 by
            chance of documents alone.
        to_next: n − 1, cosine between halves of neighbouring centuries.
        to_last: n − 1, cosine between halves of each century and of the last.
    """

    word: str
    dimension: str
    counts: tuple[int, ...]
    within: tuple[float | None, ...]
    to_next: tuple[float | None, ...]
    to_last: tuple[float | None, ...]

    @property
    def floor_next(self) -> tuple[float | None, ...]:
        """Of neighbours (n − 1), the cosine to be expected were the meaning the same.

        The geometric mean of the two centuries' own: the correction for attenuation (Spearman
        1904).
        """
        return tuple(map(_geometric, self.within[:-1], self.within[1:]))

    @property
    def floor_last(self) -> tuple[float | None, ...]:
        """Of each century and the last (n − 1), the same."""
        return tuple(_geometric(within, self.within[-1]) for within in self.within[:-1])

    @property
    def change_next(self) -> tuple[float | None, ...]:
        """Of neighbours (n − 1), what is missing: 1 − cosine / floor; about 0 for no change."""
        return tuple(map(_missing, self.to_next, self.floor_next))

    @property
    def change_last(self) -> tuple[float | None, ...]:
        """Of each century and the last (n − 1), the same."""
        return tuple(map(_missing, self.to_last, self.floor_last))


@dataclass(frozen=True)
class MeanChange:
    """The change of all words that can be compared, for one pair of centuries.

    Attributes:
        n_words: that are common enough in both centuries.
        mean: 1 − the sum of their cosines by the sum of their floors; about 0 for no change beyond
            that between documents. A mean of quotients would be pulled down by noisy floors.
        standard_error: over words; None for fewer than two. Words of one text are not
            independent, so it is a lower bound.
    """

    n_words: int
    mean: float | None
    standard_error: float | None

    @classmethod
    def of(cls, cosines: Sequence[float | None], floors: Sequence[float | None]) -> MeanChange:
        """Of one cosine and one floor a word; a word that lacks one is left out."""
        pairs = [(c, f) for c, f in zip(cosines, floors, strict=True) if c is not None and f]
        if not pairs:
            return cls(0, None, None)
        cosine, floor = np.array(pairs).T
        kept = float(cosine.sum() / floor.sum())
        if len(pairs) < 2:
            return cls(1, 1.0 - kept, None)
        residuals = cosine - kept * floor
        spread = math.sqrt(len(pairs) / (len(pairs) - 1) * float((residuals**2).sum()))
        return cls(len(pairs), 1.0 - kept, spread / float(floor.sum()))


@dataclass(frozen=True)
class MeaningDrift:
    """All value words' change of company.

    Attributes:
        words: every word of the lexicon.
        n_contexts: words that served as contexts, the same in all centuries.
        window: words to each side, within a passage.
        min_context: occurrences in every century that made a word a context.
        min_word: occurrences in a century below which a word was too rare.
        min_half: occurrences in each half of the documents, likewise.
        n_halvings: random halvings that cosines are means over.
    """

    words: tuple[WordDrift, ...]
    n_contexts: int
    window: int
    min_context: int
    min_word: int
    min_half: int
    n_halvings: int

    @property
    def change_next(self) -> tuple[MeanChange, ...]:
        """Of each century and its neighbour (n − 1)."""
        cosines = zip(*(word.to_next for word in self.words), strict=True)
        floors = zip(*(word.floor_next for word in self.words), strict=True)
        return tuple(map(MeanChange.of, cosines, floors))

    @property
    def change_last(self) -> tuple[MeanChange, ...]:
        """Of each century and the last (n − 1)."""
        cosines = zip(*(word.to_last for word in self.words), strict=True)
        floors = zip(*(word.floor_last for word in self.words), strict=True)
        return tuple(map(MeanChange.of, cosines, floors))


def compare_meanings(
    text: TextCounts, lexicon: Lexicon, rng: np.random.Generator, settings: AnalysisSettings
) -> MeaningDrift:
    """Compare the company of every value word between and within centuries.

    Args:
        text: the words.
        lexicon: the value words.
        rng: decides the halves.
        settings: all but ``sample_words``, ``n_draws`` and ``n_resamples`` are used.
    """
    heads, names = heads_of(text, lexicon), lexicon.dimension_of
    contexts, n_contexts = _contexts(text, settings.min_context)
    counts = np.array([sum_by(c.totals, heads, len(names)) for c in text.centuries])
    n = len(text.centuries)
    cosines = np.full((settings.n_halvings, n, n, len(names)), np.nan)
    prepared = [_Company.of(c, heads, contexts, len(names), n_contexts, settings.window)
                for c in text.centuries]  # fmt: skip
    for halving in range(settings.n_halvings):
        halves = [company.halves(rng, settings.min_half) for company in prepared]
        cosines[halving] = _cosines(halves, len(names), n_contexts)
    known = np.isfinite(cosines)
    means = np.where(known, cosines, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    rare = counts < settings.min_word
    usable = known.any(axis=0) & ~rare[:, None] & ~rare[None, :]
    words = []
    for index, (word, dimension) in enumerate(names.items()):

        def cell(i: int, j: int, index: int = index) -> float | None:
            return float(means[i, j, index]) if usable[i, j, index] else None

        words.append(
            WordDrift(
                word=word,
                dimension=dimension,
                counts=tuple(counts[:, index].tolist()),
                within=tuple(cell(i, i) for i in range(n)),
                to_next=tuple(cell(i, i + 1) for i in range(n - 1)),
                to_last=tuple(cell(i, n - 1) for i in range(n - 1)),
            )
        )
    return MeaningDrift(
        words=tuple(words),
        n_contexts=n_contexts,
        window=settings.window,
        min_context=settings.min_context,
        min_word=settings.min_word,
        min_half=settings.min_half,
        n_halvings=settings.n_halvings,
    )


def positive_pmi(pairs: FloatArray, contexts: FloatArray) -> FloatArray:
    """Positive pointwise mutual information, in nats.

    Args:
        pairs: (..., n_words, n_contexts), how often a context stands in a word's window.
        contexts: (..., n_contexts), running words of every context.

    Returns:
        (..., n_words, n_contexts) ``max(0, ln(p(context | word) / p(context)))``; 0 for pairs that
        do not occur.
    """
    by_word = pairs.sum(axis=-1, keepdims=True)
    shares = contexts / np.maximum(contexts.sum(axis=-1, keepdims=True), 1)
    expected = by_word * shares[..., None, :]
    known = (pairs > 0) & (expected > 0)
    ratio = np.divide(pairs, expected, out=np.ones_like(expected), where=known)
    found: FloatArray = np.maximum(np.log(ratio), 0.0)
    return found


def context_counts(
    types: NDArray[Any],
    words: NDArray[Any],
    contexts: NDArray[Any],
    shape: tuple[int, int],
    window: int,
) -> sparse.csr_array:
    """How often each context stands near each word in one document.

    Args:
        types: (n,) numbers of types, ``GAP`` between passages, which no window crosses.
        words: (n_types + 1,) the word that a type counts for, or ``GAP``, which comes last.
        contexts: (n_types + 1,) the context that a type counts for, likewise.
        shape: numbers of words and of contexts.
        window: places to each side.
    """
    passage = np.cumsum(types == GAP)
    word, context = words[types], contexts[types]
    rows, columns = [], []
    for distance in range(1, window + 1):
        same = passage[distance:] == passage[:-distance]
        for one, other in ((word[:-distance], context[distance:]),
                           (word[distance:], context[:-distance])):  # fmt: skip
            kept = same & (one != GAP) & (other != GAP)
            rows.append(one[kept])
            columns.append(other[kept])
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sparse.coo_array((np.ones(len(row)), (row, column)), shape=shape).tocsr()


@dataclass(frozen=True, eq=False)
class _Company:
    """The company of all value words in a century, by document.

    Attributes:
        pairs: (n_documents, n_words · n_contexts), flattened.
        contexts: (n_documents, n_contexts) running words of every context.
        occurrences: (n_documents, n_words).
        words: (n_documents,) running words.
    """

    pairs: sparse.csr_array
    contexts: FloatArray
    occurrences: FloatArray
    words: FloatArray

    @classmethod
    def of(
        cls,
        century: CenturyCounts,
        heads: IntArray,
        contexts: IntArray,
        n_words: int,
        n_contexts: int,
        window: int,
    ) -> _Company:
        shape = (n_words, n_contexts)
        ends = (np.append(heads, GAP), np.append(contexts, GAP))
        near = [context_counts(types, *ends, shape, window) for types in century.types]
        pairs = [part.reshape((1, n_words * n_contexts)) for part in near]
        return cls(
            sparse.vstack(pairs, format="csr"),
            sum_by(century.counts, contexts, n_contexts).astype(np.float64),
            sum_by(century.counts, heads, n_words).astype(np.float64),
            np.asarray(century.counts.sum(axis=1), dtype=np.float64),
        )

    def halves(self, rng: np.random.Generator, min_half: int) -> list[FloatArray | None]:
        """Unit vectors (n_words, n_contexts) of two random halves of the documents.

        Rows of words that are too rare in a half are NaN. A single document has no halves: its
        whole stands for the first, and there is no second.
        """
        n, shape = len(self.words), (self.occurrences.shape[1], self.contexts.shape[1])
        order = rng.permutation(n)
        before = np.cumsum(self.words[order])
        cut = 1 + int(np.argmin(np.abs(before[:-1] - before[-1] / 2))) if n > 1 else 1
        found: list[FloatArray | None] = []
        for part in (order[:cut], order[cut:]):
            if not len(part):
                found.append(None)
                continue
            pairs = np.asarray(self.pairs[np.sort(part)].sum(axis=0)).reshape(shape)
            vectors = positive_pmi(pairs, self.contexts[part].sum(axis=0))
            norms = np.linalg.norm(vectors, axis=1)
            enough = (self.occurrences[part].sum(axis=0) >= min_half) & (norms > 0)
            vectors /= np.where(enough, norms, np.nan)[:, None]
            found.append(vectors)
        return found


def _cosines(
    halves: Sequence[list[FloatArray | None]], n_words: int, n_contexts: int
) -> FloatArray:
    """(n, n, n_words) cosines of halves: within a century, or to the neighbour and the last."""
    n = len(halves)
    found = np.full((n, n, n_words), np.nan)
    for i, (first, second) in enumerate(halves):
        if first is not None and second is not None:
            found[i, i] = (first * second).sum(axis=1)
        for j in {i + 1, n - 1} - {i, n}:
            mixed = [
                (one * other).sum(axis=1)
                for one in (first, second)
                for other in halves[j]
                if one is not None and other is not None
            ]
            found[i, j] = found[j, i] = np.mean(mixed, axis=0)
    return found


def _contexts(text: TextCounts, least: int) -> tuple[IntArray, int]:
    """(n_types,) the context that each type counts for, or ``GAP``, and how many there are."""
    folded = [fold(word) for word in text.words]
    numbers = {form: number for number, form in enumerate(sorted(set(folded)))}
    group = np.array([numbers[form] for form in folded], dtype=np.int64)
    totals = np.array([sum_by(c.totals, group, len(numbers)) for c in text.centuries])
    shared = (totals >= least).all(axis=0)
    renumbered = np.where(shared, np.cumsum(shared) - 1, GAP)
    return renumbered[group], int(shared.sum())


def _geometric(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else math.sqrt(one * other)


def _missing(cosine: float | None, floor: float | None) -> float | None:
    return None if cosine is None or not floor else 1.0 - cosine / floor
