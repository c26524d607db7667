"""Bytes to text, text to clean text, and long text to passages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from progressgym_env.errors import MissingPackageError

__all__ = [
    "Cleaned",
    "Line",
    "check_installed",
    "clean_text",
    "decode",
    "decoded_lines",
    "missing_text",
    "pieces",
]

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_WESTERN = ("en", "la", "fr", "de", "it", "es", "pt", "nl", "da", "sv", "no", "fi", "ga", "")
# What old texts of these languages are saved in; among all that there are, detection from a line
# confuses Windows' Western letters with its Central European ones (68 of 76 lines of C019).
_WESTERN_ENCODINGS = ["cp1252", "mac_roman", "cp850"]

_LINE_ENDS = re.compile("\r\n|[\r\u0085\u2028\u2029]")
_PAGE_ENDS = re.compile("[\x0b\x0c]")
# Controls, marks of direction and of no width, and the byte order mark; ftfy's list and a little
# more. The soft hyphen only inside a line: at its end it is how the page was set.
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u206a-\u206f\ufeff"
    "\ufff9-\ufffc]|\u00ad(?!\n)"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?:;])[\"'”’)\]]*\s+")
_BLANK = re.compile(r"\s+")


def missing_text(error: ImportError) -> MissingPackageError:
    """The error for a package of the extra ``text`` that is not there."""
    return MissingPackageError(
        f"reading historical text needs {error.name}, which is not installed; run: "
        "pip install 'progressgym-env[text]'"
    )


def check_installed() -> None:
    """Say now, not after an hour of reading, that a package of the extra ``text`` is missing.

    Raises:
        MissingPackageError: it is.
    """
    try:
        import charset_normalizer  # noqa: F401
        import ftfy  # noqa: F401
    except ImportError as error:
        raise missing_text(error) from error


@dataclass(frozen=True)
class Line:
    """A line of a file.

    Attributes:
        number: from 1.
        text: without what says how it ends; None where the bytes are no text.
        repaired: the encoding it was found to be in, where that is not what the file says.
        start: the beginning of what could not be decoded.
    """

    number: int
    text: str | None
    repaired: str | None = None
    start: str = ""


def decoded_lines(stream: BinaryIO, language: str, limit: int) -> Iterator[Line]:
    """The lines of a file as text, in pieces of at most about ``limit`` bytes."""
    head = stream.peek(4)[:4]  # type: ignore[attr-defined]
    mark, encoding = next(((m, e) for m, e in _BOMS if head.startswith(m)), (b"", "utf-8"))
    stream.read(len(mark))
    number = 1
    for raw in _raw_lines(stream, encoding, limit):
        text, repaired = decode(raw, encoding, language)
        start = "" if text is not None else raw[:80].decode("ascii", "backslashreplace")
        yield Line(number, text, repaired, start)
        # A piece of a long line is on the same line as the next.
        number += raw.rstrip(b"\0").endswith(b"\n")


def _raw_lines(stream: BinaryIO, encoding: str, limit: int) -> Iterator[bytes]:
    """Lines as bytes; one longer than ``limit`` comes in pieces that cut no character in two."""
    wide = encoding.startswith("utf-16")
    while raw := stream.readline(limit):
        if wide:
            raw = _wide_line(stream, raw, encoding, limit)
        elif not raw.endswith(b"\n"):
            while (after := stream.peek(1)[:1]) and after[0] & 0xC0 == 0x80:  # type: ignore[attr-defined]
                raw += stream.read(1)
        yield raw


def _wide_line(stream: BinaryIO, raw: bytes, encoding: str, limit: int) -> bytes:
    """A line of UTF-16: a byte 10 ends it only as half of the right character."""
    little = encoding.endswith("le")
    while len(raw) < limit:
        if little and len(raw) % 2:
            raw += stream.read(1)
        if len(raw) % 2 == 0 and raw[-2:] == (b"\n\0" if little else b"\0\n"):
            break
        more = stream.readline(limit)
        if not more:
            break
        raw += more
    return raw + stream.read(len(raw) % 2)


def decode(raw: bytes, encoding: str, language: str) -> tuple[str | None, str | None]:
    """Bytes as text, and the encoding that they turned out to be in if not ``encoding``.

    Returns:
        The text, or None where the bytes are text in no likely encoding; and None, or a name.

    Raises:
        MissingPackageError: the extra ``text`` is not installed, and detection is needed.
    """
    try:
        return raw.decode(encoding), None
    except UnicodeDecodeError:
        if encoding != "utf-8":
            return None, None
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise missing_text(error) from error
    likely = _WESTERN_ENCODINGS if language in _WESTERN else None
    best = from_bytes(raw, cp_isolation=likely).best()
    return (None, None) if best is None else (str(best), best.encoding)


@dataclass(frozen=True)
class Cleaned:
    """A text without what is no text.

    Attributes:
        text: in Unicode's form NFC, which keeps the long s and ligatures as they are.
        mojibake: whether it had been decoded wrongly before it came here.
        removed: how many characters were taken out or replaced: controls, lone surrogates, soft
            hyphens inside a line.
    """

    text: str
    mojibake: bool
    removed: int


def clean_text(text: str) -> Cleaned:
    """Undo wrong decoding, and take out what nobody wrote; spelling, quotes, hyphens stay.

    Raises:
        MissingPackageError: the extra ``text`` is not installed.
    """
    removed, mojibake = 0, False
    if not text.isascii():
        text, changed = _SURROGATES.subn("\ufffd", _joined_surrogates(text))
        removed += changed
        repaired = "".join(_repaired(line) for line in text.splitlines(keepends=True))
        mojibake, text = repaired != text, repaired
    text = _LINE_ENDS.sub("\n", text)
    text, pages = _PAGE_ENDS.subn("\n", text)
    text, controls = _CONTROLS.subn("", text)
    return Cleaned(unicodedata.normalize("NFC", text).strip(), mojibake, removed + pages + controls)


def _joined_surrogates(text: str) -> str:
    """Two halves of a character that stand side by side, as one character."""
    if not _SURROGATES.search(text):
        return text
    return _PAIR.sub(
        lambda pair: pair.group().encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text
    )


def _repaired(line: str) -> str:
    """A line, decoded as it should have been; ftfy leaves what may be as it was meant."""
    if line.isascii():
        return line
    try:
        import ftfy
    except ImportError as error:
        raise missing_text(error) from error
    return ftfy.fix_encoding(line)


def pieces(text: str, least: int, most: int) -> list[str]:
    """Cut ``text`` into passages of at most ``most`` characters; only blanks are lost.

    Cut at the last end of a paragraph that leaves ``least`` characters on both sides, else of a
    sentence, else at a blank, else, where a word is longer than a passage, anywhere.
    """
    found = []
    text = text.strip()
    while len(text) > most:
        # What is left over is to be a passage of its own, not a tail that is too short to keep.
        high = max(least, min(most, len(text) - least))
        end, after = _cut(text, least, high)
        found.append(text[:end].rstrip())
        text = text[after:].lstrip()
    return [*found, text] if text else found


def _cut(text: str, least: int, most: int) -> tuple[int, int]:
    # One more, so that a passage may end right before the blank that follows it.
    window = text[: most + 1]
    for pattern in (_PARAGRAPH, _SENTENCE, _BLANK):
        end = None
        for match in pattern.finditer(window, least):
            if match.start() <= most:
                end = match.start() + len(match.group().rstrip())
        if end is not None and end <= most:
            return end, end
    return most, most
