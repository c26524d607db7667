"""What a build's stages are trained on: a century's text, conversations, and mixtures of both."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.errors import HistoryError
from progressgym_env.histories.text.passages import read_passages
from progressgym_env.models.text_rows import chat_rows, text_rows
from progressgym_env.models.text_training import Row, TokenBatch, as_batches

__all__ = ["century_rows", "conversation_rows", "documents_of", "mixed", "passes"]


def documents_of(text_folder: Path, century: str) -> list[list[str]]:
    """The passages that a century is trained on, a list a document, in reading order."""
    documents: dict[str, list[str]] = defaultdict(list)
    for passage in read_passages(text_folder, century):
        if passage.split == "train":
            documents[passage.document].append(passage.content)
    return list(documents.values())


def century_rows(tokenizer: Any, text_folder: Path, century: str, context: int) -> list[Row]:
    """A century's training text, as rows."""
    return text_rows(tokenizer, documents_of(text_folder, century), context)


def conversation_rows(
    tokenizer: Any, exchanges: Sequence[tuple[str, str]], context: int
) -> list[Row]:
    """Conversations as rows.

    Raises:
        HistoryError: more than a hundredth of them is longer than the context.
    """
    rows = chat_rows(tokenizer, exchanges, context)
    if len(rows) < 0.99 * len(exchanges):
        raise HistoryError(
            f"{len(exchanges) - len(rows)} of {len(exchanges)} conversations are longer than "
            f"context={context} tokens; raise it in [pretrain], or the tokenizer's vocab_size"
        )
    return rows


def passes(
    rows: Sequence[Row],
    epochs: float,
    batch_tokens: int,
    pad_token: int,
    rng: np.random.Generator,
) -> list[TokenBatch]:
    """Batches of so many passes over the rows, each in an order of its own; the last in part."""
    batches: list[TokenBatch] = []
    for number in range(math.ceil(epochs)):
        one = as_batches(rows, batch_tokens, pad_token, rng)
        batches += one[: math.ceil(len(one) * min(1.0, epochs - number))]
    return batches


def mixed(
    main: Sequence[TokenBatch],
    rows: Sequence[Row],
    share: float,
    batch_tokens: int,
    pad_token: int,
    rng: np.random.Generator,
) -> list[TokenBatch]:
    """The batches of ``main``, and among them batches of ``rows`` that are ``share`` of all."""
    if not rows:
        raise HistoryError("there are no rows to mix in: no text, or no conversation, is left")
    wanted = round(len(main) * share / (1.0 - share))
    others: list[TokenBatch] = []
    while len(others) < wanted:
        others += as_batches(rows, batch_tokens, pad_token, rng)
    together = [*main, *others[:wanted]]
    return [together[i] for i in rng.permutation(len(together))]
