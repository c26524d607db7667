"""Dialogue as bytes: cut at a character boundary, zero-padded, never garbled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressgym_env.envs.dialogue import decode_dialogue, encode_dialogue

# Characters of one to four bytes.
texts = st.text(st.sampled_from("aþſ€😀 ") | st.characters(exclude_categories=["Cs"]))


@given(st.lists(texts, min_size=1, max_size=3), st.integers(1, 20))
def test_longest_whole_prefix(replies, width):
    box = encode_dialogue(replies, width)
    assert box.shape == (len(replies), width)
    assert box.dtype == np.uint8
    for row, reply, decoded in zip(box, replies, decode_dialogue(box), strict=True):
        said = reply.replace("\0", "")
        assert said.startswith(decoded)
        used = len(decoded.encode())
        assert row[:used].tobytes() == decoded.encode()
        assert not row[used:].any()
        if decoded != said:
            following = said[len(decoded)]
            assert used + len(following.encode()) > width, "one more character would have fitted"


@pytest.mark.parametrize(
    ("text", "width", "kept"),
    [
        ("þing", 1, ""),
        ("þing", 2, "þ"),
        ("þing", 3, "þi"),
        ("a€b", 3, "a"),
        ("a€b", 4, "a€"),
        ("😀😀", 7, "😀"),
        ("abc", 3, "abc"),
        ("", 4, ""),
        ("a\0b", 4, "ab"),
        ("a\ud800b", 4, "a?b"),
    ],
)
def test_by_hand(text, width, kept):
    assert decode_dialogue(encode_dialogue([text], width)) == (kept,)


def test_default_width():
    box = encode_dialogue(["x" * 300, "y"])
    assert box.shape == (2, 256)
    assert (box[0] == ord("x")).all()
    assert box[1].tolist() == [ord("y")] + [0] * 255
