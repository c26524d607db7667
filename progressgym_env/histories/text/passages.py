"""Passages of historical text, and the files that a build keeps them in.

A build writes, into the folder ``text`` of its history::

    passages/C013.jsonl.gz   what was kept of a century, one passage a line, in reading order
    report.json              what was read, repaired, kept and left out, and why
    quarantine.jsonl         records that could not be used: file, line, reason, excerpt
    dropped.jsonl.gz         passages that a filter left out: file, line, reason, detail, excerpt
    analysis.json            what ``progressgym history inspect`` shows
    values.json              which values differ between the centuries
    held_out.json            century → titles of the documents that are held out whole
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from progressgym_env.errors import HistoryError
from progressgym_env.files import write_bytes

__all__ = [
    "ANALYSIS_FILE",
    "HELD_OUT_FILE",
    "SPLITS",
    "TEXT_FOLDER",
    "Passage",
    "century_of",
    "passages_file",
    "read_passages",
    "write_passages",
]

TEXT_FOLDER, ANALYSIS_FILE, HELD_OUT_FILE = "text", "analysis.json", "held_out.json"
_PASSAGES = "passages"

SPLITS = ("train", "document", "passage")
"""What a passage is for: training; held out with its whole document; held out of a document that
is otherwise trained on."""


@dataclass(frozen=True)
class Passage:
    """A stretch of a document, a few hundred to a few thousand characters.

    Attributes:
        century: its name, ``C013`` for the 13th.
        year: of the work's composition; None where only the century is known.
        source: the collection, HistText's ``source_dataset``.
        document: the work, unique within its century.
        content: the text, cleaned.
        split: one of ``SPLITS``.
    """

    century: str
    year: int | None
    source: str
    document: str
    content: str
    split: str = "train"


def century_of(year: int) -> str:
    """The name of the century of a year, by ProgressGym's rule: 1299 is C013, 1300 is C014."""
    return f"C{year // 100 + 1:03d}"


def passages_file(text_folder: Path, century: str) -> Path:
    """Where a century's passages lie."""
    return text_folder / _PASSAGES / f"{century}.jsonl.gz"


def write_passages(text_folder: Path, century: str, passages: Iterable[Passage]) -> None:
    """Write a century's passages; equal passages make equal files."""
    lines = [json.dumps(asdict(passage), ensure_ascii=False) for passage in passages]
    path = passages_file(text_folder, century)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode()
    write_bytes(path, gzip.compress(content, compresslevel=6, mtime=0))


def read_passages(text_folder: Path, century: str) -> Iterator[Passage]:
    """A century's passages, in reading order.

    Raises:
        HistoryError: the file is missing or damaged.
    """
    path = passages_file(text_folder, century)
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield Passage(**json.loads(line))
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise HistoryError(
            f"{path} cannot be read ({error}); remove it, and build the history again"
        ) from error
