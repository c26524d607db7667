"""What the table ``[text]`` of a history's settings may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from progressgym_env.arguments import check_integer, check_number
from progressgym_env.errors import InvalidArgumentError, unknown_name

__all__ = ["HISTTEXT", "TextSettings"]

HISTTEXT = "hub:PKU-Alignment/ProgressGym-HistText"
"""The data set that ProgressGym's own models were trained on."""

_CENTURY = re.compile(r"C\d{3}")
_HUB = re.compile(r"hub:[\w.-]+/[\w.-]+(@[\w./-]+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class TextSettings:
    """Where the text of a history comes from, and which of it is good enough.

    Attributes:
        sources: files (``.json``, ``.jsonl``, both also with ``.gz``, ``.txt``), folders, patterns
            such as ``texts/*.jsonl.gz``, all relative to the settings' folder; or
            ``hub:OWNER/NAME`` and ``hub:OWNER/NAME@REVISION`` for a data set of the hub.
        first_year: records of earlier years are quarantined; 1 to 9999.
        last_year: records of later years are quarantined; ``first_year`` to 9999.
        centuries: names such as ``C019``; records of others are left out and counted. None takes
            all that there are.
        language: the ISO 639 code of the language to keep; "" keeps every language.
        min_characters: of a passage; a shorter one is dropped. 1 or more.
        max_characters: of a passage; longer content is split at the ends of paragraphs, else of
            sentences, else at blanks. At least twice ``min_characters``.
        ocr_noise: share of a passage's words that may be broken by text recognition, 0 to 1; a
            passage with more is dropped. 1 keeps all.
        duplicates: Jaccard similarity of two passages' word triples, above 0 to 1, from which the
            later of them is dropped. 0 or None keeps duplicates.
        min_century_characters: of a century after filtering; less is an error. 0 or more.
        max_broken_share: of all records that may be quarantined, 0 to 1; more is an error.
        damaged_files: whether a file of which only the beginning can be read (a truncated gzip, a
            broken JSON array) is used as far as it goes; else it is an error.
        max_century_characters: of a century's text before filtering; records that come when there
            is as much are left out, and counted. Files of the hub then come in a fixed order that
            has nothing to do with their years, and those not needed are not fetched. None takes
            all.
        held_out_documents: share of a century's characters in whole documents that are held out,
            0 to 0.5.
        held_out_passages: share of a century's characters in passages held out of documents that
            are otherwise trained on, 0 to 0.5.

    Raises:
        InvalidArgumentError: one of them is of the wrong kind or out of its range.
    """

    sources: tuple[str, ...] = (HISTTEXT,)
    first_year: int = 1200
    last_year: int = 2099
    centuries: tuple[str, ...] | None = None
    language: str = "en"
    min_characters: int = 200
    max_characters: int = 2000
    ocr_noise: float = 0.12
    duplicates: float | None = 0.8
    min_century_characters: int = 200_000
    max_broken_share: float = 0.01
    damaged_files: bool = False
    max_century_characters: int | None = None
    held_out_documents: float = 0.1
    held_out_passages: float = 0.05

    def __post_init__(self) -> None:
        self._check_sources()
        self._check_centuries()
        check_integer("first_year", self.first_year, 1, 9999)
        check_integer("last_year", self.last_year, self.first_year, 9999)
        check_integer("min_characters", self.min_characters, 1)
        # A piece that is cut off must leave enough behind to be a passage, too.
        check_integer("max_characters", self.max_characters, 2 * self.min_characters)
        check_integer("min_century_characters", self.min_century_characters, 0)
        if self.max_century_characters is not None:
            least = max(1, self.min_century_characters)
            check_integer("max_century_characters", self.max_century_characters, least)
        for name in ("ocr_noise", "max_broken_share"):
            check_number(name, getattr(self, name), 0, 1)
        for name in ("held_out_documents", "held_out_passages"):
            check_number(name, getattr(self, name), 0, 0.5)
        if self.duplicates is not None:
            check_number("duplicates", self.duplicates, 0, 1)
        if self.language != "" and not _matches(_LANGUAGE, self.language):
            raise InvalidArgumentError(
                f"language={self.language!r} must be an ISO 639 code such as 'en', or '' for all"
            )

    def _check_sources(self) -> None:
        if not isinstance(self.sources, tuple) or not self.sources:
            raise InvalidArgumentError(
                f"sources={self.sources!r} must be one or more files, folders, patterns or "
                f"data sets such as {HISTTEXT!r}"
            )
        for source in self.sources:
            if not isinstance(source, str) or not source.strip():
                raise InvalidArgumentError(f"sources: {source!r} must be text that is not empty")
            if source.startswith("hub:") and not _HUB.fullmatch(source):
                raise InvalidArgumentError(
                    f"sources: {source!r} must be hub:OWNER/NAME or hub:OWNER/NAME@REVISION"
                )

    def _check_centuries(self) -> None:
        if self.centuries is None:
            return
        if not isinstance(self.centuries, tuple) or not self.centuries:
            raise InvalidArgumentError(
                f"centuries={self.centuries!r} must be one or more names such as 'C019'; leave it "
                "out for all"
            )
        for name in self.centuries:
            if not _matches(_CENTURY, name):
                raise InvalidArgumentError(
                    f"centuries: {name!r} must be a C and three digits, such as 'C019' for 1800 "
                    "to 1899"
                )
        if len(set(self.centuries)) < len(self.centuries):
            raise InvalidArgumentError(f"centuries={self.centuries!r} must name each only once")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> TextSettings:
        """The settings of a TOML table; what it does not name has its default.

        Raises:
            UnknownNameError: a key is none of the attributes.
            InvalidArgumentError: a value is out of its range.
        """
        known = [field.name for field in fields(cls)]
        for key in table:
            if key not in known:
                raise unknown_name("key of [text]", key, known)
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in table.items()
        }
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, and as ``from_table`` takes them."""
        values = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
