"""Records from files of JSON, JSON lines and plain text, whatever is wrong with them."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from progressgym_env.histories.text.cleaning import Line, decoded_lines
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.passages import century_of

__all__ = ["Broken", "FileReader", "Record", "dated_path", "excerpt"]

_TITLES = ("source_document", "document", "title")
_LONGEST_RECORD = 1 << 28
_CHUNK = 1 << 20
_YEAR = re.compile(r"\s*-?\d{1,5}\s*", re.ASCII)
_NOT_BLANK = re.compile(r"[^ \t\r\n]")
CENTURY_FOLDER = re.compile(r"C\d{3}")
_YEAR_FOLDER = re.compile(r"\d{4}", re.ASCII)
_YEAR_FILE = re.compile(r"(\d{4})(?!\d)[-_. ]*(.*)", re.ASCII)


@dataclass(frozen=True)
class Record:
    """A text as a source has it.

    Attributes:
        file: its name, as the report has it.
        line: where it begins, from 1.
        century: of composition.
        year: of composition; None where only the century is known.
        source: the collection.
        document: the work.
        content: not cleaned yet.
        repaired: encodings that its lines turned out to be in.
        titled: whether ``document`` is a title; else it stands for a place.
    """

    file: str
    line: int
    century: str
    year: int | None
    source: str
    document: str
    content: str
    repaired: tuple[str, ...] = ()
    titled: bool = True


@dataclass(frozen=True)
class Broken:
    """What could not be used of a file, and why; a record, or the rest of the file."""

    file: str
    line: int
    reason: str
    excerpt: str
    rest_of_file: bool = False


class FileReader:
    """Reads the records of one file, one after the other, never the whole file at once.

    What is wrong with a record becomes a ``Broken`` in its place, and reading goes on; what is
    wrong with a file becomes one for the rest of it.
    """

    def __init__(self, path: Path, name: str, settings: TextSettings) -> None:
        self.path, self.name, self.settings = path, name, settings
        self.line = 0
        self._repaired: list[str] = []

    def __iter__(self) -> Iterator[Record | Broken]:
        try:
            with self._open() as stream:
                if self._suffix() == ".txt":
                    yield self._plain(stream)
                else:
                    yield from self._json(stream)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield Broken(self.name, self.line + 1, "damaged gzip", excerpt(str(error)), True)
        except OSError as error:
            yield Broken(self.name, self.line + 1, "unreadable file", excerpt(str(error)), True)

    def _open(self) -> BinaryIO:
        if self.path.suffix == ".gz":
            return cast("BinaryIO", gzip.open(self.path, "rb"))
        return self.path.open("rb")

    def _suffix(self) -> str:
        return Path(self.path.stem).suffix if self.path.suffix == ".gz" else self.path.suffix

    def _json(self, stream: BinaryIO) -> Iterator[Record | Broken]:
        if self._suffix() == ".jsonl" or _first_line_is_whole(stream):
            for line in decoded_lines(stream, self.settings.language, _LONGEST_RECORD):
                yield from self._json_line(line)
            return
        values = _JsonValues(decoded_lines(stream, self.settings.language, _CHUNK))
        try:
            for number, value in values:
                self.line = number
                self._repaired += values.repaired()
                yield self._record(value, number, json.dumps(value)[:200])
        except _BrokenJsonError as error:
            yield Broken(self.name, error.line, error.reason, excerpt(error.text), True)
        finally:
            self.line = values.line

    def _json_line(self, line: Line) -> Iterator[Record | Broken]:
        self.line = line.number
        if line.text is None:
            yield Broken(self.name, line.number, "undecodable bytes", excerpt(line.start))
            return
        if line.repaired:
            self._repaired.append(line.repaired)
        if not line.text.strip():
            return
        try:
            value = json.loads(line.text)
        except (ValueError, RecursionError):
            yield Broken(self.name, line.number, "broken JSON", excerpt(line.text))
            return
        yield self._record(value, line.number, line.text)

    def _record(self, value: Any, line: int, text: str) -> Record | Broken:
        def broken(reason: str) -> Broken:
            self._repaired.clear()
            return Broken(self.name, line, reason, excerpt(text))

        if not isinstance(value, dict):
            return broken("not a record")
        for field in ("creation_year", "source_dataset", "content"):
            if value.get(field) is None:
                return broken(f"{field} is missing")
        year = _year(value["creation_year"])
        if year is None:
            return broken("creation_year is no year")
        if not self.settings.first_year <= year <= self.settings.last_year:
            return broken("creation_year is out of range")
        for field in ("source_dataset", "content"):
            if not isinstance(value[field], str):
                return broken(f"{field} is no text")
            if not value[field].strip():
                return broken(f"{field} is empty")
        titles = (value.get(field) for field in _TITLES)
        title = next((t for t in titles if isinstance(t, str) and t.strip()), None)
        return Record(
            file=self.name,
            line=line,
            century=century_of(year),
            year=year,
            source=_plain_name(value["source_dataset"]),
            document=_plain_name(title or f"{self.name}:{line}"),
            content=value["content"],
            repaired=self._take_repaired(),
            titled=title is not None,
        )

    def _plain(self, stream: BinaryIO) -> Record | Broken:
        lines = list(decoded_lines(stream, self.settings.language, _LONGEST_RECORD))
        wrong = next((line for line in lines if line.text is None), None)
        if wrong:
            return Broken(self.name, wrong.number, "undecodable bytes", excerpt(wrong.start))
        self._repaired += [line.repaired for line in lines if line.repaired]
        content = "".join(line.text or "" for line in lines)
        century, year, source, document = dated_path(self.path)
        if century is None:
            return Broken(self.name, 1, "no year in the path", excerpt(content))
        first, last = (century_of(y) for y in (self.settings.first_year, self.settings.last_year))
        known = year is None or self.settings.first_year <= year <= self.settings.last_year
        if not known or not first <= century <= last:
            return Broken(self.name, 1, "creation_year is out of range", excerpt(content))
        if not content.strip():
            return Broken(self.name, 1, "content is empty", "")
        repaired = self._take_repaired()
        # What a file is called says little: there may be a "letters" or a "1" in every folder.
        return Record(self.name, 1, century, year, source, document, content, repaired, False)

    def _take_repaired(self) -> tuple[str, ...]:
        taken = tuple(sorted(set(self._repaired)))
        self._repaired.clear()
        return taken


class _BrokenJsonError(Exception):
    """The rest of a file of JSON cannot be read."""

    def __init__(self, line: int, reason: str, text: str) -> None:
        super().__init__(reason)
        self.line, self.reason, self.text = line, reason, text


class _JsonValues:
    """The values of a JSON array, or of JSON values one after the other, with their lines.

    Only about one value is in memory at a time; the standard decoder reads each, and more of the
    file is fetched where a value does not end in what there is.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        self.line = 1
        self._lines, self._decoder = lines, json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False
        self._found: list[str] = []

    def repaired(self) -> list[str]:
        """Encodings found since this was last asked."""
        found, self._found = self._found, []
        return found

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        array = self._next_character() == "["
        if array:
            self._advance(self._at + 1)
        first = True
        while (character := self._next_character()) is not None:
            if array and character == "]":
                return
            if array and not first:
                if character != ",":
                    raise self._broken("broken JSON")
                self._advance(self._at + 1)
                self._next_character()
            yield self._value()
            first = False
        if array:
            raise self._broken("broken JSON")

    def _value(self) -> tuple[int, Any]:
        line = self.line
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise self._broken("broken JSON") from error
            except ValueError as error:
                if not self._fetch():
                    raise self._broken("broken JSON") from error
                continue
            # A number at the end of what there is may go on.
            if end < len(self._text) or not self._fetch():
                self._advance(end)
                return line, value

    def _next_character(self) -> str | None:
        while True:
            match = _NOT_BLANK.search(self._text, self._at)
            if match:
                self._advance(match.start())
                return match.group()
            self._advance(len(self._text))
            if not self._fetch():
                return None

    def _advance(self, position: int) -> None:
        self.line += self._text.count("\n", self._at, position)
        self._at = position

    def _fetch(self) -> bool:
        """Read as much again as is waiting; False at the end, and where a value is too long."""
        rest = self._text[self._at :]
        if len(rest) > _LONGEST_RECORD:
            return False
        chunks, wanted = [rest], max(_CHUNK >> 4, len(rest))
        while wanted > 0 and not self._ended:
            line = next(self._lines, None)
            if line is None:
                self._ended = True
                break
            if line.text is None:
                raise _BrokenJsonError(line.number, "undecodable bytes", line.start)
            if line.repaired:
                self._found.append(line.repaired)
            chunks.append(line.text)
            wanted -= len(line.text)
        self._text, self._at = "".join(chunks), 0
        return len(chunks) > 1

    def _broken(self, reason: str) -> _BrokenJsonError:
        return _BrokenJsonError(self.line, reason, self._text[self._at : self._at + 400])


def _first_line_is_whole(stream: BinaryIO) -> bool:
    """Whether a ``.json`` file holds JSON lines: an object begins and ends on its first line."""
    head = cast("bytes", stream.peek(_CHUNK))  # type: ignore[attr-defined]
    first, newline, rest = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    if not first.startswith(b"{"):
        return False
    if first.rstrip().endswith(b"}") and newline:
        return True
    # A line longer than what can be looked at: an object over several lines begins with a short.
    return not newline and len(head) >= 4096 and not rest


def _year(value: Any) -> int | None:
    """A year as an integer; HistText has some as text, and pandas writes some as 1245.0."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _YEAR.fullmatch(value):
        return int(value)
    return None


def dated_path(path: Path) -> tuple[str | None, int | None, str, str]:
    """Century, year, source and document of a plain text, by its path.

    ``FOLDER/C013/TITLE.txt`` and ``FOLDER/1245/TITLE.txt`` are of the source FOLDER, and
    ``FOLDER/1245-TITLE.txt`` is, too.
    """
    name = path.name.removesuffix(".gz").removesuffix(".txt")
    folder = path.parent.name
    if CENTURY_FOLDER.fullmatch(folder):
        return folder, None, path.parent.parent.name, name
    if _YEAR_FOLDER.fullmatch(folder):
        return century_of(int(folder)), int(folder), path.parent.parent.name, name
    match = _YEAR_FILE.fullmatch(name)
    if match:
        return century_of(int(match[1])), int(match[1]), folder, match[2] or name
    return None, None, folder, name


def excerpt(text: str) -> str:
    """The beginning of a text on one line, as any file can hold it."""
    shown = text[:400].encode("utf-8", "replace").decode("utf-8")
    return " ".join(shown.split())[:160]


def _plain_name(name: str) -> str:
    return " ".join(name.encode("utf-8", "replace").decode("utf-8").split())
