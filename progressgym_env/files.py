"""Files that are there whole or not at all.

Everything this package writes goes through here: to a temporary file in the same folder first,
then into place in one step. A reader never sees half a file, and an interrupted run leaves the
old one as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from progressgym_env.errors import InvalidArgumentError

__all__ = [
    "atomic_path",
    "cache_folder",
    "file_hash",
    "new_folder",
    "numbered_folder",
    "replaced_folder",
    "write_bytes",
    "write_json",
    "write_text",
]


def cache_folder() -> Path:
    """Where fetched files and prepared histories lie: ``progressgym`` in the user's cache.

    That is ``$XDG_CACHE_HOME``, or ``~/.cache`` where it is not set.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "progressgym"


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Lend a temporary path beside ``path``; what is written there replaces ``path`` on leaving.

    The temporary path ends like ``path``, for writers that go by the suffix. If the block raises,
    the temporary file is removed and ``path`` stays as it was.

    Raises:
        FileNotFoundError: the folder of ``path`` does not exist.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(4)}.tmp{target.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, atomically, with line ends as they are."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` to ``path`` as indented JSON, atomically.

    Raises:
        ValueError: ``content`` holds NaN or infinity, which JSON does not know.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def new_folder(path: str | Path) -> Path:
    """Make the folder ``path``, or take it as it is where it is empty.

    Raises:
        InvalidArgumentError: something is in the way; nothing is ever overwritten.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InvalidArgumentError(f"{folder} is a file; give a folder that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise InvalidArgumentError(
            f"{folder} holds something already; give a folder that is empty or does not exist yet"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def replaced_folder(path: str | Path) -> Iterator[Path]:
    """Lend an empty temporary folder beside ``path``, which takes its place on leaving.

    If the block raises, the temporary folder is removed and ``path`` stays as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}-*.tmp"):
        shutil.rmtree(left)  # By a run that was killed.
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def numbered_folder(parent: str | Path, stem: str) -> Path:
    """Make ``parent/stem-001``, or the next number that is free, also with others at the same."""
    base = Path(parent)
    base.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = base / f"{stem}-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
