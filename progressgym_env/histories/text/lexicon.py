"""Words of a text, and the words that speak of values."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from progressgym_env.errors import HistoryError
from progressgym_env.values.dimensions import DIMENSION_KEYS

__all__ = ["Lexicon", "fold", "load_lexicon", "words_of"]

# Letters, with apostrophes inside; neither digits nor underscores.
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# Letters that were written for one another, and letters that were given up.
_SAME = str.maketrans({"v": "u", "j": "i", "y": "i", "þ": "th", "ð": "th", "ȝ": "gh", "æ": "ae"})


def words_of(text: str) -> list[str]:
    """The running words of a text, in lower case: runs of letters, apostrophes inside included."""
    return _WORD.findall(text.lower())


def fold(word: str) -> str:
    """The word without accents, and with u/v, i/j/y, þ/th, ȝ/gh and æ/ae made the same."""
    letters = unicodedata.normalize("NFKD", word.lower())
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return bare.translate(_SAME)


@dataclass(frozen=True)
class Lexicon:
    """Value words by dimension.

    Attributes:
        words: dimension's key → its headwords.
        forms: folded form → the headword that it counts for.
    """

    words: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, str]

    @property
    def dimension_of(self) -> dict[str, str]:
        """Headword → the key of its dimension."""
        return {word: key for key, words in self.words.items() for word in words}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Mapping[str, list[str]]]) -> Lexicon:
        """From dimension → headword → forms, the headword among them.

        Raises:
            HistoryError: an unknown dimension, or a form that belongs to two headwords.
        """
        forms: dict[str, str] = {}
        for key, words in raw.items():
            if key not in DIMENSION_KEYS:
                raise HistoryError(f"value words of {key!r}; known: {', '.join(DIMENSION_KEYS)}")
            for word, spellings in words.items():
                for form in map(fold, spellings):
                    if forms.setdefault(form, word) != word:
                        raise HistoryError(f"{form!r} stands for {forms[form]!r} and {word!r}")
        return cls({key: tuple(words) for key, words in raw.items()}, forms)


@cache
def load_lexicon() -> Lexicon:
    """The package's own value words: ``data/value_words.json``, with a note on how it was made."""
    path = files("progressgym_env.histories.text") / "data" / "value_words.json"
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Lexicon.from_dict(raw["dimensions"])
