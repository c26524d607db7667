"""Dialogue as bytes: what the judge says, in a box that every RL library can carry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["DIALOGUE_WIDTH", "decode_dialogue", "encode_dialogue"]

DIALOGUE_WIDTH: int = 256
"""Bytes kept of every reply."""


def encode_dialogue(texts: Sequence[str], width: int = DIALOGUE_WIDTH) -> NDArray[np.uint8]:
    """UTF-8 of each text, cut to ``width`` bytes at a character boundary and zero-padded.

    A zero byte ends a text, so zero characters, which no reply needs, are left out. Lone
    surrogates, which UTF-8 cannot carry, become ``?``.

    Returns:
        (len(texts), width) uint8.
    """
    box = np.zeros((len(texts), width), dtype=np.uint8)
    for row, text in zip(box, texts, strict=True):
        encoded = _cut(text.replace("\0", "").encode("utf-8", errors="replace"), width)
        row[: len(encoded)] = np.frombuffer(encoded, dtype=np.uint8)
    return box


def decode_dialogue(box: ArrayLike) -> tuple[str, ...]:
    """The texts of a dialogue box: the inverse of :func:`encode_dialogue`, cuts aside.

    Args:
        box: (n_texts, width) of bytes, 0 to 255.
    """
    rows = np.asarray(box, dtype=np.uint8)
    return tuple(row.tobytes().rstrip(b"\0").decode("utf-8") for row in rows)


def _cut(encoded: bytes, width: int) -> bytes:
    if len(encoded) <= width:
        return encoded
    end = width
    # Bytes 0b10xxxxxx continue a character: step back to where one begins.
    while end > 0 and encoded[end] & 0b1100_0000 == 0b1000_0000:
        end -= 1
    return encoded[:end]
