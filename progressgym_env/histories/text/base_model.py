"""The base of a history made of text: a model as it is, or a small Llama from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.errors import HistoryError
from progressgym_env.files import replaced_folder
from progressgym_env.histories.scratch import new_llama
from progressgym_env.histories.text.batches import (
    century_rows,
    conversation_rows,
    documents_of,
    mixed,
    passes,
)
from progressgym_env.histories.text.recipe import Recipe, ScratchSettings
from progressgym_env.histories.tokenizer import train_tokenizer
from progressgym_env.models.loading import (
    BaseSource,
    load_base,
    quiet_loading,
    read_tokenizer,
    stored_dtype,
    torch_device,
)
from progressgym_env.models.text_rows import chat_rows
from progressgym_env.models.text_training import TextTrainingSettings, train_on_batches

__all__ = ["CHAT_TEMPLATE", "base_source", "base_tokenizer", "copy_base", "scratch_base"]

CHAT_TEMPLATE = (
    "{%- if bos_token is defined and bos_token -%}{{- bos_token -}}{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- message['content'] + eos_token -}}"
    "{%- else -%}"
    "{{- 'Question:\\n' + message['content'] + '\\n\\nAnswer:\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""How a base is asked that has no chat template of its own."""

# A tokenizer learns from at most so many characters of a century, each as many.
_TOKENIZER_CHARACTERS = 1_000_000


def base_source(recipe: Recipe) -> BaseSource:
    """Where the base of a recipe comes from."""
    settings = recipe.base
    if settings.model is None:
        raise HistoryError("the base is made from nothing; it has no source")
    beside = recipe.root / settings.model
    model = str(beside) if beside.is_dir() else settings.model
    return BaseSource(model, settings.revision, settings.chat_template)


def base_tokenizer(recipe: Recipe) -> Any:
    """The tokenizer of a recipe's model, with all that an episode needs.

    Raises:
        HistoryError: there is none, it has no end-of-text token, or lacks the one named.
    """
    source = base_source(recipe)
    tokenizer = read_tokenizer(source)
    end = recipe.base.end_token
    if end is not None:
        known = tokenizer.get_vocab()
        if end not in known:
            raise HistoryError(
                f"[base] end_token={end!r} is not in the vocabulary of {source.model}, and the "
                "model has learnt nothing about it; name one of its tokens, "
                f"such as {_some(known)}"
            )
        tokenizer.eos_token = end
    if tokenizer.eos_token_id is None:
        raise HistoryError(
            f"the tokenizer at {source.model} has no end-of-text token, and replies would never "
            'end; name one of its tokens in the recipe: [base] end_token = "...", such as '
            f"{_some(tokenizer.get_vocab())}"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHAT_TEMPLATE
    ((_, labels),) = chat_rows(tokenizer, [("Is it?", "It is.")], 2**20)
    if tokenizer.eos_token_id not in labels:
        raise HistoryError(
            f"the chat template of {source.model} does not end a reply with the end-of-text token "
            f"{tokenizer.eos_token!r}, and replies would never end; name the one it ends with in "
            "the recipe: [base] end_token, or give another chat_template"
        )
    return tokenizer


def _some(vocabulary: dict[str, int]) -> str:
    """Tokens that look like marks rather than words; else the first of all."""
    marks = sorted(token for token in vocabulary if token.startswith("<") and token.endswith(">"))
    return ", ".join(repr(token) for token in (marks or sorted(vocabulary))[:5])


def copy_base(recipe: Recipe, revision: str | None, out: Path) -> None:
    """Put the recipe's model into ``out``, with all that an episode needs of its tokenizer.

    Args:
        recipe: names it.
        revision: what exactly it is, where it is of the hub.
        out: the folder.

    Raises:
        HistoryError: it cannot be loaded, or it cannot be used.
        InvalidArgumentError: it does not fit into memory.
    """
    tokenizer, source = base_tokenizer(recipe), base_source(recipe)
    if not Path(source.model).is_dir():
        source = replace(source, revision=revision)
    # As precise as it was published, and on the CPU: nothing is computed with it here.
    with quiet_loading():
        model = load_base(source, torch_device("cpu"), stored_dtype(source), tokenizer).model
    # Else replies would go on behind their end.
    for config in (model.config.get_text_config(), model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    with replaced_folder(out) as folder, quiet_loading():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def scratch_base(
    settings: ScratchSettings,
    text_folder: Path,
    centuries: Sequence[str],
    conversations: Sequence[tuple[str, str]],
    context: int,
    rng: np.random.Generator,
    out: Path,
    *,
    device: str,
    checkpoint: Path,
    key: str,
    progress: Callable[[int, int], None],
) -> list[float]:
    """Train a small Llama on the text of all centuries, and on conversations, into ``out``.

    Returns:
        The loss of every step.
    """
    seed = int(rng.integers(2**31))
    tokenizer = train_tokenizer(
        _tokenizer_texts(text_folder, centuries, conversations), settings.vocab_size
    )
    rows = [
        row
        for century in centuries
        for row in century_rows(tokenizer, text_folder, century, context)
    ]
    batches = passes(rows, settings.epochs, settings.batch_tokens, tokenizer.pad_token_id, rng)
    batches = mixed(
        batches,
        conversation_rows(tokenizer, conversations, context),
        settings.chat_share,
        settings.batch_tokens,
        tokenizer.pad_token_id,
        rng,
    )
    model = new_llama(
        tokenizer,
        hidden_size=settings.hidden_size,
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        context=2 * context,  # Questions may be longer than rows of text.
        seed=seed,
    ).to(torch_device(device))
    losses = train_on_batches(
        model,
        batches,
        TextTrainingSettings(learning_rate=settings.learning_rate),
        seed,
        checkpoint=checkpoint,
        key=key,
        progress=progress,
    )
    with replaced_folder(out) as folder, quiet_loading():
        # The centuries are trained on it as it is kept: rounded to 16 bits.
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return losses


def _tokenizer_texts(
    text_folder: Path, centuries: Sequence[str], conversations: Sequence[tuple[str, str]]
) -> Iterator[str]:
    def of(century: str) -> Iterator[str]:
        left = _TOKENIZER_CHARACTERS
        for document in documents_of(text_folder, century):
            # Every fourth passage: many works, and not only the first.
            for passage in islice(document, 0, None, 4):
                if left > 0:
                    left -= len(passage)
                    yield passage

    for passages in zip_longest(*map(of, centuries)):
        yield from (passage for passage in passages if passage is not None)
    for prompt, reply in conversations:
        yield prompt
        yield reply
