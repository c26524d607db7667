"""What a corpus was made of, what was done to it, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from progressgym_env.errors import HistoryError

__all__ = ["CenturyReport", "CorpusReport", "FileReport"]


@dataclass(frozen=True)
class FileReport:
    """A file that was read.

    Attributes:
        name: relative to the settings' folder, or ``hub:OWNER/NAME/PATH``.
        sha256: of its content.
        revision: of the hub; None for a file that lay here.
        records: entries that were found in it, good or not.
        quarantined: reason → records.
        repaired: encoding → records that were in it, and not in the one that was to be expected;
            ``mojibake`` for those that had been decoded wrongly before.
        removed: control characters and lone surrogates that were taken out of its records.
    """

    name: str
    sha256: str
    revision: str | None
    records: int
    quarantined: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    removed: int = 0


@dataclass(frozen=True)
class CenturyReport:
    """What became of a century's records.

    Attributes:
        name: of the century.
        records: that were used.
        found: passages that they were cut into: those kept, and those dropped.
        dropped: reason → passages.
        documents: with at least one passage kept.
        passages: kept.
        characters: of the passages kept.
        sources: collection → passages kept.
        repaired: as in ``FileReport``.
        removed: as in ``FileReport``.
        splits: split → documents, passages and characters.
    """

    name: str
    records: int
    found: int
    dropped: dict[str, int]
    documents: int
    passages: int
    characters: int
    sources: dict[str, int]
    repaired: dict[str, int]
    removed: int
    splits: dict[str, dict[str, int]]


@dataclass(frozen=True)
class CorpusReport:
    """A corpus, in numbers. Every record is used, quarantined or left out.

    Attributes:
        settings: the table ``[text]``, whole.
        files: that were read, in order.
        skipped: files in the sources' folders that are of no kind that can be read.
        records: entries found.
        quarantined: reason → records; they are in ``quarantine.jsonl``.
        left_out: century → records of centuries that were not asked for.
        shared: documents that several centuries have parts of; they are not held out whole.
        centuries: oldest first.
    """

    settings: dict[str, Any]
    files: tuple[FileReport, ...]
    skipped: tuple[str, ...]
    records: int
    quarantined: dict[str, int]
    left_out: dict[str, int]
    shared: tuple[str, ...]
    centuries: tuple[CenturyReport, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CorpusReport:
        """The report that ``to_json`` was asked of.

        Raises:
            HistoryError: it is none.
        """
        try:
            given = dict(values)
            given["files"] = tuple(FileReport(**file) for file in given["files"])
            given["centuries"] = tuple(CenturyReport(**c) for c in given["centuries"])
            for name in ("skipped", "shared"):
                given[name] = tuple(given[name])
            return cls(**given)
        except (KeyError, TypeError) as error:
            raise HistoryError(
                f"this is no report of a corpus ({error}); build the history again"
            ) from error
