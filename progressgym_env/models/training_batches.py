"""What trl's trainers are fed: encoded examples, packed batches, and the forward pass on them.

trl computes a chosen and a rejected sequence apart and runs the output layer over every token.
Here the two replies share the computation of their prompt (as one trie of tokens, see
:mod:`.packing`), and the output layer runs only where a reply is read. What comes out is the same
to rounding; about half of the tokens and nearly all of the output layer are saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from trl.trainer.utils import FusedCausalLMOutput

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.models.packed_forward import edge_log_probs
from progressgym_env.models.packing import PackedBatch, TokenRow, collate
from progressgym_env.models.updates import TrainingExample

__all__ = [
    "IGNORED",
    "EncodedExample",
    "PackedSequences",
    "collate_examples",
    "encode_examples",
    "pack_replies",
    "packed_forward",
    "reply_log_probs",
]

IGNORED = -100  # What trl and transformers mark labels with that are not trained on.
_ROW_TOKENS = 128  # Rows this long waste little on padding and little on attention.


@dataclass(frozen=True)
class EncodedExample:
    """Token ids: a prompt up to the answer slot, and the replies to it with their end token."""

    prompt: list[int]
    replies: tuple[list[int], ...]


def encode_examples(
    tokenizer: Any, examples: Sequence[TrainingExample], n_replies: int
) -> list[EncodedExample]:
    """Token ids of ``examples``, exactly those the chat template gives to whole conversations.

    Args:
        tokenizer: with a chat template.
        examples: what to encode.
        n_replies: 1 for the chosen replies alone, 2 for the rejected ones behind them.

    Raises:
        InvalidArgumentError: a rejected reply is missing, or a prompt is rendered otherwise once
            it is answered, so that it would be trained on what is never asked.
    """
    asked = [[{"role": "user", "content": example.prompt}] for example in examples]
    texts = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    for example, question in zip(examples, asked, strict=True):
        for reply in (example.chosen, example.rejected)[:n_replies]:
            if reply is None:
                raise InvalidArgumentError(
                    f"the example {example.prompt!r} has no rejected reply; dpo needs both, "
                    "use sft to learn from chosen replies alone"
                )
            answered = [*question, {"role": "assistant", "content": reply}]
            texts.append(tokenizer.apply_chat_template(answered, tokenize=False))
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    encoded = []
    for index, prompt in enumerate(ids[: len(examples)]):
        start = len(examples) + index * n_replies
        whole = ids[start : start + n_replies]
        if any(sequence[: len(prompt)] != prompt for sequence in whole):
            raise InvalidArgumentError(
                f"the chat template renders {texts[index]!r} otherwise once it is answered "
                f"({texts[start]!r}); use one in which the prompt stays as it is"
            )
        encoded.append(EncodedExample(prompt, tuple(s[len(prompt) :] for s in whole)))
    return encoded


@dataclass(frozen=True, eq=False)
class PackedSequences:
    """Sequences packed into rows, and where each log-probability belongs.

    Attributes:
        batch: the packed rows.
        cells: (n_edges,) flat index of each edge in the array of all log-probabilities.
    """

    batch: PackedBatch
    cells: NDArray[np.int64]


def collate_examples(
    examples: Sequence[dict[str, Any]], *, pad_token: int, as_preference: bool
) -> dict[str, Any]:
    """A batch in trl's shape (all chosen sequences, then all rejected), and packed beside it."""
    columns = ("chosen_ids", "rejected_ids") if as_preference else ("chosen_ids",)
    n = len(examples)
    sequences = [(e["prompt_ids"], e[column]) for column in columns for e in examples]
    length = max(len(prompt) + len(reply) for prompt, reply in sequences)
    input_ids = torch.full((len(sequences), length), pad_token)
    attention = torch.zeros_like(input_ids)
    completion = torch.zeros_like(input_ids)
    for index, (prompt, reply) in enumerate(sequences):
        end = len(prompt) + len(reply)
        input_ids[index, :end] = torch.tensor(prompt + reply)
        attention[index, :end] = 1
        completion[index, len(prompt) : end] = 1
    groups = [[index + n * k for k in range(len(columns))] for index in range(n)]
    batch: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention}
    first = [len(prompt) - 1 for prompt, _ in sequences]
    batch["packed"] = _pack(sequences, groups, first, length - 1, pad_token)
    if as_preference:
        batch["completion_mask"] = completion
        for column in ("ref_chosen_logps", "ref_rejected_logps"):
            if column in examples[0]:
                batch[column] = torch.tensor([e[column] for e in examples])
    else:
        batch["labels"] = input_ids.masked_fill(completion == 0, IGNORED)
    return batch


def pack_replies(
    prompts: Sequence[list[int]], replies: Sequence[list[int]], pad_token: int
) -> PackedSequences:
    """Replies packed so that those to the same prompt share its computation.

    Log-probabilities belong into an array (n, length of the longest reply), from the left.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        alike.setdefault(tuple(prompt), []).append(index)
    sequences = list(zip(prompts, replies, strict=True))
    width = max(map(len, replies))
    return _pack(sequences, list(alike.values()), [0] * len(sequences), width, pad_token)


def _pack(
    sequences: Sequence[tuple[list[int], list[int]]],
    groups: Sequence[Sequence[int]],
    first: Sequence[int],
    width: int,
    pad_token: int,
) -> PackedSequences:
    """Pack ``sequences``; those of a group have the same prompt, which is computed once.

    Log-probabilities of a reply go from column ``first`` on into its row, ``width`` wide.
    """
    sizes = [
        len(sequences[group[0]][0]) + sum(len(sequences[i][1]) for i in group) for group in groups
    ]
    n_rows = -(-sum(sizes) // max(_ROW_TOKENS, *sizes))
    rows = [TokenRow() for _ in range(n_rows)]
    members: list[list[int]] = [[] for _ in range(n_rows)]
    # Longest first, each into the row that is shortest so far: the rows end up about equal.
    for index in sorted(range(len(groups)), key=lambda g: (-sizes[g], g)):
        group = groups[index]
        place = min(range(n_rows), key=lambda r: len(rows[r]))
        rows[place].add(sequences[group[0]][0], [sequences[i][1] for i in group])
        members[place] += group
    cells = [
        index * width + first[index] + place
        for row in members
        for index in row
        for place in range(len(sequences[index][1]))
    ]
    return PackedSequences(collate(rows, pad_token), np.array(cells, dtype=np.int64))


def reply_log_probs(base: Any, packed: PackedSequences, shape: Sequence[int]) -> Tensor:
    """Log-probabilities of the tokens of the replies, each where it belongs; 0 elsewhere.

    Args:
        base: the ``transformers`` model, with LoRA layers inside.
        packed: what to run it on.
        shape: that of the array that ``packed`` was made for.

    Returns:
        float32 of ``shape``, differentiable.
    """
    values = edge_log_probs(base, packed.batch)
    cells = torch.from_numpy(packed.cells).to(values.device)
    zeros = values.new_zeros(int(np.prod(shape)))
    return zeros.index_put((cells,), values).view(*shape)


def packed_forward(
    base: Any, *, packed: PackedSequences, labels: Tensor, **_: Any
) -> FusedCausalLMOutput:
    """What trl's own forward pass with a fused output layer returns, from the packed rows."""
    mask = labels[:, 1:] != IGNORED
    log_probs = reply_log_probs(base, packed, mask.shape)
    # trl averages these for a log that is off; NaN says that they were not measured.
    unknown = torch.full(mask.shape, torch.nan, device=mask.device)
    return FusedCausalLMOutput(
        log_probs=log_probs,
        entropy=unknown,
        mean_logits=unknown,
        is_top1=torch.zeros_like(mask),
        label_mask=mask,
    )
