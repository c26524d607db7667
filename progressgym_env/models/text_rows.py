"""Running text and conversations as rows of tokens, and how likely a model finds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from progressgym_env.models.text_training import IGNORED, Row, grouped
from progressgym_env.models.training_batches import encode_examples
from progressgym_env.models.updates import TrainingExample

__all__ = ["chat_rows", "log_likelihoods", "passage_rows", "text_rows"]


def text_rows(tokenizer: Any, documents: Iterable[Sequence[str]], context: int) -> list[Row]:
    """Documents one after another, cut into rows that fill the context.

    Args:
        tokenizer: its beginning-of-text token, where it has one, begins every row, so that a row is
            read as if it were the first thing said; its end-of-text token ends every document.
        documents: each the passages of one work, in order.
        context: tokens of a row; the last may have fewer.
    """
    begin = _begin(tokenizer)
    ids: list[int] = []
    for passages in documents:
        ids += _encode(tokenizer, "\n".join(passages))
        ids.append(tokenizer.eos_token_id)
    step = context - len(begin)
    rows = (begin + ids[start : start + step] for start in range(0, len(ids), step))
    # Nothing is predicted of a single token. As arrays: lists would take ten times the memory.
    arrays = (np.array(row, dtype=np.int32) for row in rows if len(row) > len(begin) + 1)
    return [(row, row) for row in arrays]


def passage_rows(tokenizer: Any, passage: str, context: int) -> list[Row]:
    """One passage as rows, each as if it were the first thing said."""
    begin = _begin(tokenizer)
    ids = _encode(tokenizer, passage)
    step = context - len(begin)
    rows = [begin + ids[start : start + step] for start in range(0, len(ids), step)]
    return [(row, row) for row in rows if len(row) > 1]


def chat_rows(tokenizer: Any, exchanges: Sequence[tuple[str, str]], context: int) -> list[Row]:
    """Prompts and replies in the chat template; the replies alone are trained.

    Args:
        tokenizer: with a chat template.
        exchanges: pairs of prompt and reply.
        context: tokens of a row at most.

    Returns:
        As many rows as exchanges that fit, in their order; longer ones are left out.
    """
    examples = [TrainingExample(prompt, reply, None) for prompt, reply in exchanges]
    rows: list[Row] = []
    for encoded in encode_examples(tokenizer, examples, n_replies=1):
        tokens = [*encoded.prompt, *encoded.replies[0]]
        if len(tokens) <= context:
            rows.append((tokens, [IGNORED] * len(encoded.prompt) + list(encoded.replies[0])))
    return rows


def log_likelihoods(
    model: Any,
    rows: Sequence[Row],
    batch_tokens: int,
    pad_token: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How likely a model finds rows of text: log-probability, and over how many tokens.

    Args:
        model: a ``transformers`` causal language model.
        rows: a row's first token is given, not predicted.
        batch_tokens: places that are computed together at most, padding among them.
        pad_token: fills shorter rows.

    Returns:
        (n_rows,) float64, nats, summed over the tokens that have labels; (n_rows,) int64, how many
        those are.
    """
    sums, counts = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    with torch.inference_mode():
        for places, batch in grouped(rows, order, batch_tokens, pad_token):
            input_ids = torch.from_numpy(batch.input_ids).long().to(model.device)
            labels = torch.from_numpy(batch.labels).long()[:, 1:]
            logits = model(input_ids=input_ids, use_cache=False).logits[:, :-1].float()
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1),
                labels.flatten().to(logits.device),
                ignore_index=IGNORED,
                reduction="none",
            )
            sums[places] = -loss.view(labels.shape).double().sum(1).cpu().numpy()
            counts[places] = (labels != IGNORED).sum(1).numpy()
    return sums, counts


def _begin(tokenizer: Any) -> list[int]:
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def _encode(tokenizer: Any, text: str) -> list[int]:
    # Whole works are longer than any context; they are cut afterwards.
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
