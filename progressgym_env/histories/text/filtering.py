"""Which passages are good enough: long enough, in the language, cleanly recognised, not twice."""

from __future__ import annotations

from functools import cache
from typing import Any

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.text.cleaning import missing_text
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.duplicates import DuplicateIndex
from progressgym_env.histories.text.noise import WordCounts, noise

__all__ = ["REASONS", "LanguageCheck", "PassageFilter"]

REASONS = ("too short", "language", "ocr noise", "duplicate")
"""Why passages are dropped, in the order in which it is asked."""

_LIKELIER = 0.2
# Languages that the library tells apart from another and that are one for us: Nigerian Pidgin is
# what it takes English for that is spelled as Caxton spelled.
_KIN = {"en": ("pcm",)}


class LanguageCheck:
    """Tells passages that are in another language.

    A passage is in another language if that one is likelier by ``e`` to the power of 0.2 for every
    character. Of 10,428 passages of 1200 to 2020, two reached more: two half in Latin, with 0.27.
    The nearest in English, in the spelling of the Paston letters, had -0.02; 26 short texts in
    Latin, French, German, Italian, Spanish, Dutch and Greek, also medieval ones, 0.49 and more.

    Args:
        language: ISO 639 code of the language to keep, or "" to keep every one.

    Raises:
        MissingPackageError: the extra ``text`` is not installed.
        InvalidArgumentError: the language is not known.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._identifier: Any = None
        if not language:
            return
        self._identifier = _identifier()
        known = [label for label in self._identifier.labels if label != "zxx"]
        if language not in known:
            raise InvalidArgumentError(
                f"language={language!r} is not one that can be told apart: {', '.join(known)}; "
                "or '' to keep all"
            )

    def other(self, text: str) -> tuple[str, float] | None:
        """The language that ``text`` is in if not the wanted one, and by how much it is likelier.

        In nats a character.
        """
        if self._identifier is None:
            return None
        scores = dict(self._identifier.rank(text))
        own = max(scores[name] for name in (self.language, *_KIN.get(self.language, ())))
        likeliest = max(scores, key=lambda name: scores[name])
        margin = float(scores[likeliest] - own) / max(1, len(text))
        return (likeliest, margin) if margin > _LIKELIER else None


@cache
def _identifier() -> Any:
    """The library's model, unpacked once: that takes seconds."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise missing_text(error) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=False)


class PassageFilter:
    """Drops passages, one after the other; what is a duplicate depends on what came before."""

    def __init__(self, settings: TextSettings, known: WordCounts) -> None:
        self.settings, self.known = settings, known
        self.language = LanguageCheck(settings.language)
        self.duplicates = DuplicateIndex(settings.duplicates or 0)

    def reason(self, text: str, name: str) -> tuple[str, str] | None:
        """None if the passage called ``name`` is kept, else one of ``REASONS``, and in detail."""
        if len(text) < self.settings.min_characters:
            return "too short", f"{len(text)} characters, {self.settings.min_characters} wanted"
        other = self.language.other(text)
        if other:
            return "language", f"{other[0]} is likelier by {other[1]:.2f} nats a character"
        share = noise(text, self.known)
        if share > self.settings.ocr_noise:
            return "ocr noise", f"{share:.0%} of the words are broken"
        same = self.duplicates.add(text, name)
        if same:
            return "duplicate", f"like {same[0]}: similarity about {same[1]:.2f}"
        return None
