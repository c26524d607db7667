"""The words of a built history's passages, counted by document."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from progressgym_env.errors import HistoryError
from progressgym_env.histories.text.lexicon import Lexicon, fold, words_of
from progressgym_env.histories.text.passages import SPLITS, Passage, read_passages

__all__ = [
    "GAP",
    "CenturyCounts",
    "Share",
    "TextCounts",
    "AnalysisSettings",
    "count_words",
    "heads_of",
    "sum_by",
]

IntArray = NDArray[np.int64]

GAP = -1
"""Stands between two passages of a document, where a type's number would."""


@dataclass(frozen=True)
class AnalysisSettings:
    """How a text is analysed.

    Attributes:
        sample_words: running words a century that vocabularies are compared at, at most; fewer
            where the smallest century has fewer.
        n_draws: samples that comparisons of vocabularies are averaged over.
        n_resamples: of documents, for intervals.
        window: words to each side that make a word's context, within a passage.
        min_context: occurrences in every century that make a word a context of others.
        min_word: occurrences in a century below which a value word is too rare to be compared.
        min_half: occurrences in each half of a century's documents, likewise.
        n_halvings: random halvings of a century's documents.
    """

    sample_words: int = 100_000
    n_draws: int = 5
    n_resamples: int = 2_000
    window: int = 5
    min_context: int = 25
    min_word: int = 60
    min_half: int = 20
    n_halvings: int = 20


@dataclass(frozen=True)
class Share:
    """A part of a century's text: what comes of one source, or is kept for one purpose."""

    documents: int
    passages: int
    characters: int


@dataclass(frozen=True, eq=False)
class CenturyCounts:
    """A century's words.

    Attributes:
        century: its name.
        documents: (n_documents) names, sorted.
        passages: number of passages.
        characters: number of characters.
        years: first and last year of composition; empty where none is known.
        sources: source → its share, by name.
        splits: for each of ``SPLITS``, its share.
        types: for every document, its running words as numbers of types, ``GAP`` between passages.
        counts: (n_documents, n_types) how often a document has a type.
    """

    century: str
    documents: tuple[str, ...]
    passages: int
    characters: int
    years: tuple[int, ...]
    sources: Mapping[str, Share]
    splits: Mapping[str, Share]
    types: tuple[NDArray[np.int32], ...]
    counts: sparse.csr_array

    @property
    def n_words(self) -> int:
        """Running words."""
        return int(self.counts.sum())

    @property
    def totals(self) -> IntArray:
        """(n_types,) occurrences of every type."""
        return np.asarray(self.counts.sum(axis=0), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class TextCounts:
    """All centuries' words.

    Attributes:
        words: (n_types) all word types, in lower case, sorted; a type's number is its place.
        centuries: in the order they were asked for.
    """

    words: tuple[str, ...]
    centuries: tuple[CenturyCounts, ...]


def count_words(text_folder: Path, centuries: Sequence[str]) -> TextCounts:
    """Count the words of a built history's text. Takes four bytes a running word of memory.

    The order of passages matters to nothing but that of the words in ``types``.

    Raises:
        HistoryError: the passages of a century cannot be read, or hold no word.
    """
    numbers: dict[str, int] = {}
    read = [_read(name, read_passages(text_folder, name), numbers) for name in centuries]
    words = sorted(numbers)
    order = np.empty(len(numbers) + 1, dtype=np.int32)
    order[[numbers[word] for word in words]] = np.arange(len(words), dtype=np.int32)
    order[GAP] = GAP
    return TextCounts(tuple(words), tuple(_counted(one, order) for one in read))


@dataclass(frozen=True, eq=False)
class _Read:
    century: str
    words: Mapping[str, list[NDArray[np.int32]]]
    years: set[int]
    sources: Mapping[str, Share]
    splits: Mapping[str, Share]
    n_passages: int
    n_characters: int


def _read(century: str, passages: Iterable[Passage], numbers: dict[str, int]) -> _Read:
    """Read a century's passages; types are numbered as they come."""
    words: dict[str, list[NDArray[np.int32]]] = defaultdict(list)
    kept: dict[str, list[tuple[str, str, int]]] = {"source": [], "split": []}
    years = set()
    for passage in passages:
        found = [numbers.setdefault(word, len(numbers)) for word in words_of(passage.content)]
        words[passage.document].append(np.array([*found, GAP], dtype=np.int32))
        for name, values in kept.items():
            values.append((getattr(passage, name), passage.document, len(passage.content)))
        if passage.year is not None:
            years.add(passage.year)
    if not any(len(part) > 1 for parts in words.values() for part in parts):
        raise HistoryError(f"the text of {century} holds no word; build the history again")
    splits = _shares(kept["split"])
    n_characters = sum(characters for _, _, characters in kept["split"])
    return _Read(
        century,
        words,
        years,
        _shares(kept["source"]),
        {split: splits.get(split, Share(0, 0, 0)) for split in SPLITS},
        len(kept["split"]),
        n_characters,
    )


def _shares(entries: Sequence[tuple[str, str, int]]) -> dict[str, Share]:
    documents: dict[str, set[str]] = defaultdict(set)
    passages: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for part, document, length in entries:
        documents[part].add(document)
        passages[part] += 1
        characters[part] += length
    return {
        part: Share(len(documents[part]), passages[part], characters[part])
        for part in sorted(documents)
    }


def _counted(read: _Read, order: NDArray[np.int32]) -> CenturyCounts:
    documents = tuple(sorted(read.words))
    types = tuple(order[np.concatenate(read.words[name])] for name in documents)
    rows: list[Any] = [np.bincount(part[part != GAP]) for part in types]
    n_types = len(order) - 1
    places = [np.flatnonzero(row) for row in rows]
    counts = sparse.csr_array(
        (
            np.concatenate([row[place] for row, place in zip(rows, places, strict=True)]),
            np.concatenate(places),
            np.cumsum([0, *map(len, places)]),
        ),
        shape=(len(documents), n_types),
    )
    return CenturyCounts(
        century=read.century,
        documents=documents,
        passages=read.n_passages,
        characters=read.n_characters,
        years=(min(read.years), max(read.years)) if read.years else (),
        sources=read.sources,
        splits=read.splits,
        types=types,
        counts=counts,
    )


def heads_of(text: TextCounts, lexicon: Lexicon) -> IntArray:
    """(n_types,) the number of the headword that each type counts for, or ``GAP``."""
    numbers = {word: number for number, word in enumerate(lexicon.dimension_of)}
    found = [lexicon.forms.get(fold(word)) for word in text.words]
    return np.array([GAP if word is None else numbers[word] for word in found], dtype=np.int64)


def sum_by(counts: Any, numbers: IntArray, n: int) -> IntArray:
    """Counts of types, summed by what each type counts for.

    Args:
        counts: (n_types,) array, or (n_documents, n_types) sparse array.
        numbers: (n_types,) in [0, n), or ``GAP`` for types that count for nothing.
        n: how many numbers there are.

    Returns:
        (n,) or (n_documents, n).
    """
    kept = np.flatnonzero(numbers != GAP)
    ones = np.ones(len(kept), dtype=np.int64)
    sums = counts @ sparse.csr_array((ones, (kept, numbers[kept])), shape=(len(numbers), n))
    return np.asarray(sums.toarray() if sparse.issparse(sums) else sums, dtype=np.int64)
