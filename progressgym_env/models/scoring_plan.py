"""How a list of prompts is scored: which are computed together, and which number is whose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.models.packing import PackedBatch, TokenRow, batches, collate
from progressgym_env.values.forms import Prompt

__all__ = ["ScoringPlan"]


class ScoringPlan:
    """Prompts turned into packed batches, and where each answer's number comes from.

    Attributes:
        n_answers: answers of all prompts, one after another.
        n_tokens: tokens to compute, shared beginnings counted once.
        n_padded: tokens that are computed, with the padding.
        batches: packed rows, and for each of their answers its place among ``n_answers``.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        tokenizer: Any,
        encode_prompt: Callable[[str], list[int]],
        *,
        batch_tokens: int,
        batch_places: int,
        batch_overhead: int,
    ) -> None:
        """Plan how to score ``prompts``.

        Args:
            prompts: those of one question next to one another.
            tokenizer: encodes the answers.
            encode_prompt: a prompt's text → its tokens up to the answer slot.
            batch_tokens: tokens that a batch may hold.
            batch_places: places at which a batch may be read, each with logits of its own.
            batch_overhead: tokens that take as long as a batch takes beside its tokens.
        """
        rows: list[TokenRow] = []
        answer_of_row: list[list[int]] = []
        previous: str | None = None
        n_answers = 0
        for prompt in prompts:
            # The prompts of one question begin alike; they share a row.
            group = prompt.text.split("\n", 1)[0]
            if group != previous:
                rows.append(TokenRow())
                answer_of_row.append([])
                previous = group
            answers = [
                tokenizer(answer, add_special_tokens=False)["input_ids"]
                for answer in prompt.answers
            ]
            rows[-1].add(encode_prompt(prompt.text), answers)
            answer_of_row[-1] += range(n_answers, n_answers + len(answers))
            n_answers += len(answers)
        self.n_answers = n_answers
        self.n_tokens = sum(len(row) for row in rows)
        self.batches: list[tuple[PackedBatch, NDArray[np.int64]]] = []
        lengths, places = [len(row) for row in rows], [row.n_places for row in rows]
        for indices in batches(
            lengths, batch_tokens, places, batch_places, overhead=batch_overhead
        ):
            batch = collate([rows[i] for i in indices], tokenizer.pad_token_id)
            positions = np.array([a for i in indices for a in answer_of_row[i]])
            self.batches.append((batch, positions))
        self.n_padded = sum(batch.input_ids.size for batch, _ in self.batches)
