"""Mending the texts of the published moral evaluation: quotes, blanks, and lists cut at a comma."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["clean_text", "fold", "mend_lists"]

_CURLY = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"})
# Between two options of a list whose quotes were not recognised when it was written as CSV.
_BETWEEN = re.compile(r"”\s*,\s*“")


def fold(text: str) -> str:
    """Letters and digits alone, so that case, blanks and punctuation do not hide a repetition."""
    words = "".join(char if char.isalnum() else " " for char in text.casefold())
    return " ".join(words.split())


def clean_text(raw: str) -> tuple[str, tuple[str, ...]]:
    """A scenario or an option without what a spreadsheet left around it.

    Returns:
        The text, and what was mended, in words; nothing was, if that is empty.

    Raises:
        ValueError: a quotation opens or closes inside the text, and has no other end.
    """
    mended: list[str] = []

    def step(before: str, after: str, what: str) -> str:
        if after != before and what not in mended:
            mended.append(what)
        return after

    text = step(raw, raw.strip(), "outer blanks")
    text = step(text, text.translate(_CURLY), "curly quotes")
    text = step(text, text.removesuffix(";").rstrip(), "a semicolon at the end")
    text = step(text, text.removeprefix(",").lstrip(), "a comma at the start")
    # Twice: a few are wrapped in both kinds.
    text = step(text, _unwrapped(_unwrapped(text)), "quotes around the text")
    if text.count('"') % 2:
        outer = text.removeprefix('"') if text.startswith('"') else text.removesuffix('"')
        if outer.count('"') % 2:
            raise ValueError("a quotation mark without its other half")
        text = step(text, outer.strip(), "a stray quotation mark")
    text = step(text, " ".join(text.split()), "blanks in a row")
    return text, tuple(mended)


def _unwrapped(text: str) -> str:
    for mark in "\"'":
        inner = text[1:-1]
        if len(text) > 2 and text[0] == text[-1] == mark:
            # In "'a' or 'b'" the outer marks do not belong together; an apostrophe is no mark.
            marks = re.findall(rf"(?<!\w){mark}|{mark}(?!\w)", inner)
            if not marks:
                return inner.strip()
    return text


def mend_lists(options: Sequence[str]) -> tuple[str, ...] | None:
    """As many options, out of fields that were cut at the wrong commas; None if none was.

    The fields are put together again with the commas that they were cut at, and cut between
    a closing and an opening curly quote.

    Raises:
        ValueError: that gives more or fewer options than there are fields.
    """
    if not any(_BETWEEN.search(option) for option in options):
        return None
    # A quotation mark that closes the whole list is the spreadsheet's own.
    whole = ",".join(option for option in options if option.strip()).rstrip('" ')
    found = [part.strip().strip("“”") for part in _BETWEEN.split(whole)]
    if len(found) != len(options) or not all(found):
        raise ValueError(f"cut at the wrong commas, and {len(found)} when put together")
    return tuple(found)
