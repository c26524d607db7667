"""Text as it should be, cut into passages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressgym_env.histories.text.cleaning import clean_text, decode, pieces


def test_detection_gives_up_on_what_no_encoding_fits():
    assert decode(b"\x00\xd8", "utf-16-le", "en") == (None, None)
    assert decode("þe".encode(), "utf-8", "en") == ("þe", None)


@pytest.mark.parametrize(
    ("text", "cleaned", "mojibake", "removed"),
    [
        ("ſhe ſaid “þe ﬁn”—vir-\ntue, 3½", "ſhe ſaid “þe ﬁn”—vir-\ntue, 3½", False, 0),
        ("Cafe\u0301", "Café", False, 0),
        ("The cafÃ© of OrlÃ©ans", "The café of Orléans", True, 0),
        ("itâ\x80\x99s", "it’s", True, 0),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour", False, 0),
        ("be\x00ll\x1b\x07s", "bells", False, 3),
        ("page\x0cnext", "page\nnext", False, 1),
        ("vir\u00adtue vir\u00ad\ntue", "virtue vir\u00ad\ntue", False, 1),
        ("\ufeffzero\u200bwidth", "zerowidth", False, 2),
        ("half \ud83d pair \ud83d\ude00", "half \ufffd pair 😀", False, 1),
        (" \x00\n ", "", False, 1),
    ],
)
def test_cleaning(text: str, cleaned: str, mojibake: bool, removed: int):
    found = clean_text(text)
    assert (found.text, found.mojibake, found.removed) == (cleaned, mojibake, removed)


@given(st.text())
def test_clean_text_can_be_written_and_stays_clean(text: str):
    cleaned = clean_text(text).text
    cleaned.encode("utf-8")
    assert clean_text(cleaned).removed == 0


@given(
    st.lists(
        st.sampled_from(["a", "word", "sentence. ", "end.” ", " ", "\n", "\n\n", "x" * 70, "ſ! "])
    ).map("".join),
    st.integers(1, 30),
    st.integers(2, 4),
)
def test_cutting_loses_nothing_but_blanks(text: str, least: int, times: int):
    most = least * times
    found = pieces(text, least, most)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(piece) <= most for piece in found)
    assert all(piece == piece.strip() for piece in found)


def test_long_text_is_cut_at_paragraphs_then_sentences_then_blanks():
    paragraph = "It was so. " * 15
    assert pieces(f"{paragraph}\n\n{paragraph}\n\n{paragraph}", 100, 400) == [
        f"{paragraph.strip()} \n\n{paragraph.strip()}",
        paragraph.strip(),
    ]
    assert all(piece.endswith("so.") for piece in pieces(paragraph * 9, 100, 400))
    assert all(set(piece.split()) == {"word"} for piece in pieces("word " * 500, 100, 400))
    assert [len(piece) for piece in pieces("x" * 900, 100, 400)] == [400, 400, 100]


def test_no_short_tail_is_left_over():
    for count in range(40, 400):
        assert min(len(piece) for piece in pieces("word " * count, 100, 400)) >= 95
