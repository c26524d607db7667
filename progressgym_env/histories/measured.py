"""What was measured of one century, as a file: a long measurement goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.errors import HistoryError
from progressgym_env.files import write_json
from progressgym_env.histories.records import Exchange, Records

__all__ = ["MeasuredPart", "joined", "key_of", "read_part"]

_NUMBERS = ("values", "standard_errors", "preferences")
_REPLIES = ("open_replies", "influence_replies")


@dataclass(frozen=True)
class MeasuredPart:
    """The records of one century, as a file.

    Attributes:
        path: of the file.
        key: all that the measurements depend on, as JSON; a file with another is no longer it.
        model: whose they are, for messages.
    """

    path: Path
    key: Mapping[str, Any]
    model: str

    def read(self) -> Records | None:
        """The records, if they are there and were measured of the same.

        Raises:
            HistoryError: the file is damaged.
        """
        if not self.path.is_file():
            return None
        raw = read_part(self.path)
        if key_of(raw) != self.key:
            return None
        values, errors, preferences = (np.array([raw[name]]) for name in _NUMBERS)
        said, influenced = (tuple(Exchange(**e) for e in raw[name]) for name in _REPLIES)
        return Records(values, errors, preferences, (said,), (influenced,))

    def write(self, records: Records) -> None:
        """Store the records of this one century.

        Raises:
            HistoryError: they hold NaN.
        """
        content: dict[str, Any] = {"key": dict(self.key)}
        for name in _NUMBERS:
            content[name] = getattr(records, name)[0].tolist()
        for name in _REPLIES:
            content[name] = [asdict(exchange) for exchange in getattr(records, name)[0]]
        try:
            write_json(self.path, content)
        except ValueError as error:
            raise HistoryError(
                f"{self.model} gave numbers that are none ({error}); check its weights for NaN, "
                "and that every dimension has two eval questions"
            ) from error


def joined(records: Sequence[Records]) -> Records:
    """The records of a history, from those of its centuries."""
    return Records(
        values=np.concatenate([r.values for r in records]),
        standard_errors=np.concatenate([r.standard_errors for r in records]),
        preferences=np.concatenate([r.preferences for r in records]),
        open_replies=tuple(r.open_replies[0] for r in records),
        influence_replies=tuple(r.influence_replies[0] for r in records),
        planted=None,
    )


def key_of(raw: Any) -> Mapping[str, Any]:
    """What a part's content says it was measured of; nothing where it says nothing."""
    key = raw.get("key") if isinstance(raw, dict) else None
    return key if isinstance(key, dict) else {}


def read_part(path: Path) -> Any:
    """A part's content.

    Raises:
        HistoryError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HistoryError(
            f"{path} is damaged ({error}); remove it, and the century is measured again"
        ) from error
