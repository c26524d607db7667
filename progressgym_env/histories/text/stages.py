"""Stages of a build: what is done is found again, if it was done with the same."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from progressgym_env.errors import HistoryError
from progressgym_env.files import file_hash, write_json

__all__ = ["Stages", "digest_of", "folder_digest"]


def digest_of(*told: Any) -> str:
    """SHA-256 of anything that JSON can hold."""
    text = json.dumps(told, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files in a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_of([[path.relative_to(folder).as_posix(), file_hash(path)] for path in paths])


class Stages:
    """What a build has done, a small file a stage, written when the stage is complete.

    Args:
        folder: for the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def outcome(self, stage: str, key: str) -> Mapping[str, Any] | None:
        """What a stage noted when it was done with this ``key``; None if it was not.

        Raises:
            HistoryError: the note is damaged.
        """
        path = self._path(stage)
        if not path.is_file():
            return None
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            return dict(noted["outcome"]) if noted["key"] == key else None
        except (ValueError, KeyError, TypeError) as error:
            raise HistoryError(
                f"{path} is damaged ({error!r}); remove it, and the stage is done again"
            ) from error

    @contextmanager
    def doing(self, stage: str, key: str) -> Iterator[dict[str, Any]]:
        """Lend a place for a stage's outcome; it is noted, with the time, unless the block raises.

        What an earlier run took of a stage that was interrupted is not counted.
        """
        outcome: dict[str, Any] = {}
        path = self._path(stage)
        path.unlink(missing_ok=True)
        began = time.monotonic()
        yield outcome
        outcome["seconds"] = round(time.monotonic() - began, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": key, "outcome": outcome})

    def seconds(self) -> dict[str, float]:
        """Stage → seconds, of all stages that are done, by name."""
        found: dict[str, float] = {}
        for path in sorted(self.folder.glob("*.json")):
            noted = json.loads(path.read_text(encoding="utf-8"))
            found[path.stem] = float(noted["outcome"].get("seconds", 0.0))
        return found

    def checkpoint(self, stage: str) -> Path:
        """Where a stage writes down what it has reached."""
        return self.folder / f"{stage}.safetensors"

    def _path(self, stage: str) -> Path:
        return self.folder / f"{stage}.json"
