"""What the text of a history is like: sizes, vocabularies, value words, and perplexities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from progressgym_env.errors import HistoryError
from progressgym_env.histories.text.counting import (
    AnalysisSettings,
    CenturyCounts,
    Share,
    count_words,
)
from progressgym_env.histories.text.drift import MeaningDrift, compare_meanings
from progressgym_env.histories.text.fields import decode, encode
from progressgym_env.histories.text.frequencies import Frequencies, count_values
from progressgym_env.histories.text.lexicon import Lexicon, load_lexicon
from progressgym_env.histories.text.overlap import VocabularyOverlap, compare_vocabularies
from progressgym_env.histories.text.passages import ANALYSIS_FILE
from progressgym_env.histories.text.perplexity_table import PerplexityTable

__all__ = ["CenturyText", "TextAnalysis", "analyse", "read_analysis"]


@dataclass(frozen=True)
class CenturyText:
    """A century's text in numbers.

    Attributes:
        name: of the century.
        documents: works.
        passages: stretches of works.
        characters: of all passages.
        words: running words: runs of letters.
        types: distinct words, in lower case, as they are spelt.
        years: first and last year of composition; empty where none is known.
        sources: source → its share.
        splits: ``train``, ``document`` and ``passage`` → their shares.
    """

    name: str
    documents: int
    passages: int
    characters: int
    words: int
    types: int
    years: tuple[int, ...]
    sources: Mapping[str, Share]
    splits: Mapping[str, Share]


@dataclass(frozen=True)
class TextAnalysis:
    """What ``text/analysis.json`` holds.

    Attributes:
        centuries: n, oldest first.
        overlap: of vocabularies, with type-token ratios at the same sample size.
        frequencies: of the words of each dimension.
        drift: of the meaning of those words.
        settings: what the analysis was made with.
        perplexity: of every century's model on every century's held-out text; None until models
            have been asked.
    """

    centuries: tuple[CenturyText, ...]
    overlap: VocabularyOverlap
    frequencies: Frequencies
    drift: MeaningDrift
    settings: AnalysisSettings
    perplexity: PerplexityTable | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The centuries' names."""
        return tuple(century.name for century in self.centuries)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values, for :func:`progressgym_env.files.write_json`."""
        return encode(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "text analysis") -> Self:
        """From ``to_dict``, also after a round trip through JSON.

        Raises:
            HistoryError: a field is missing, unknown or of another kind.
        """
        return decode(cls, raw, where)


def analyse(
    text_folder: Path,
    centuries: Sequence[str],
    rng: np.random.Generator,
    settings: AnalysisSettings | None = None,
    lexicon: Lexicon | None = None,
) -> TextAnalysis:
    """Analyse the passages of a built history; models are not needed, and not asked.

    The order of a century's passages does not matter. A minute for 200 MB of text on one core.

    Args:
        text_folder: the folder ``text`` of a history.
        centuries: their names, oldest first.
        rng: decides samples, resamples and halves.
        settings: sizes and least counts; None takes the usual ones.
        lexicon: the value words; None takes the package's own.

    Raises:
        HistoryError: a century's passages are missing, damaged or without a word.
    """
    settings, lexicon = settings or AnalysisSettings(), lexicon or load_lexicon()
    text = count_words(text_folder, centuries)
    samples, resamples, halves = rng.spawn(3)
    return TextAnalysis(
        centuries=tuple(map(_described, text.centuries)),
        overlap=compare_vocabularies(text, samples, settings),
        frequencies=count_values(text, lexicon, resamples, settings),
        drift=compare_meanings(text, lexicon, halves, settings),
        settings=settings,
    )


def read_analysis(text_folder: Path) -> TextAnalysis:
    """Read ``analysis.json``.

    Raises:
        HistoryError: it is missing, damaged, or another version of this package wrote it.
    """
    path = text_folder / ANALYSIS_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(
            f"{path} cannot be read ({error}); remove it and inspect again"
        ) from error
    return TextAnalysis.from_dict(raw, str(path))


def _described(century: CenturyCounts) -> CenturyText:
    return CenturyText(
        name=century.century,
        documents=len(century.documents),
        passages=century.passages,
        characters=century.characters,
        words=century.n_words,
        types=int((century.totals > 0).sum()),
        years=century.years,
        sources=century.sources,
        splits=century.splits,
    )
