"""From nothing to the embedded base model: tokenizer, then knowledge and an upright population.

Order of learning matters at this size: a model that meets varied values from the start does not
learn to compare. The base therefore learns what acts amount to, beside a population that upholds
nearly everything; values come loose only in the adapters of the centuries. Bare questions come
first, scenarios later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from progressgym_env.histories.embedded.grammar import Grammar
from progressgym_env.histories.embedded.tasks import UPRIGHT, RowMaker
from progressgym_env.models.packed_forward import edge_log_probs
from progressgym_env.models.packing import TokenRow, collate
from progressgym_env.values.dimensions import VIEW_KEYS
from progressgym_env.values.forms import FORMS, render_prompt
from progressgym_env.values.questions import Question

__all__ = ["PretrainSettings", "new_base", "pretrain", "tokenizer_texts", "weighted_loss"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PretrainSettings:
    """How the base model is made and trained.

    Attributes:
        steps: optimiser steps.
        rows: packed rows a step.
        learning_rate: peak of a cosine schedule with 100 warm-up steps.
        bare_steps: steps until scenarios appear; before, questions are asked bare.
        hidden_size: width of the Llama.
        n_layers: its depth.
    """

    steps: int = 2600
    rows: int = 20
    learning_rate: float = 2e-3
    bare_steps: int = 900
    hidden_size: int = 128
    n_layers: int = 4


# (bound of the share of rows, weight of the loss): questions, judgements, knowledge of two acts,
# knowledge of the four views, open replies, statements.
_MIX = ((0.25, 1.0), (0.35, 1.0), (0.70, 0.5), (0.80, 0.5), (0.90, 0.1), (1.00, 0.05))
# Later questions still come bare now and then, so that nothing hangs on a scenario.
_LATE_BARE = 0.15


def tokenizer_texts(grammar: Grammar, rng: np.random.Generator, n: int = 6000) -> Iterator[str]:
    """Text to train the tokenizer on: everything the grammar can say, in fair shares."""
    question = Question("", "train", "", ("one", "two"), {})
    views = Question("", "train", "", ("one", "two", "three", "four"), {})
    frames = [render_prompt(question, form, (0, 1)).text for form in FORMS]
    frames += [render_prompt(views, form, (0, 1, 2, 3)).text for form in ("ab", "repeat")]
    for index in range(n):
        person = grammar.person(rng)
        prompt = grammar.open_prompts[index % len(grammar.open_prompts)]
        sides = VIEW_KEYS if prompt.topic == "views" else ("uphold", "violate")
        yield grammar.scenario(rng, person, matter=index % 5 == 0)
        yield grammar.statement(rng)
        yield prompt.text
        yield grammar.open_reply(rng, prompt.topic, sides[index % len(sides)], person)
        yield frames[index % len(frames)]
        yield "Yes No Which is A, yes or no? Say which is it. What is it to"


def new_base(settings: PretrainSettings, tokenizer: Any, seed: int) -> Any:
    """A randomly initialised Llama with tied embeddings; 1.1M parameters by default."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.hidden_size * 11 // 4,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def pretrain(
    model: Any,
    maker: RowMaker,
    settings: PretrainSettings,
    rng: np.random.Generator,
    pad_token: int,
    progress: Progress,
) -> list[float]:
    """Train ``model`` in place; returns the loss of every step."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    model.train()
    losses = []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings.steps)
        bare = 1.0 if step < settings.bare_steps else _LATE_BARE
        drawn = [_draw(maker, rng, i / settings.rows, bare) for i in range(settings.rows)]
        loss = weighted_loss(model, [d[0] for d in drawn], [d[1] for d in drawn], pad_token)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        progress("base model", step + 1, settings.steps)
    model.eval()
    return losses


def weighted_loss(
    model: Any,
    rows: list[TokenRow],
    row_weights: Iterable[float],
    pad_token: int,
) -> Tensor:
    """Expected cross-entropy a row: −Σ weight · log p over all edges, averaged over rows."""
    batch = collate(rows, pad_token)
    weights = batch.edge_weight * np.asarray(list(row_weights), dtype=np.float32)[batch.edge_row]
    log_probs = edge_log_probs(model, batch)
    return -(log_probs * torch.from_numpy(weights).to(log_probs.device)).sum() / len(rows)


def _draw(
    maker: RowMaker, rng: np.random.Generator, share: float, bare: float
) -> tuple[TokenRow, float]:
    """A row of the kind that ``share`` falls to, and the weight of its loss."""
    kind = next(i for i, (bound, _) in enumerate(_MIX) if share < bound)
    scenario = rng.random() >= bare
    draw = (
        lambda: maker.value_row(rng, UPRIGHT, scenario=scenario),
        lambda: maker.judgement_row(rng, UPRIGHT),
        lambda: maker.knowledge_row(rng, scenario=scenario),
        lambda: maker.view_knowledge_row(rng, scenario=scenario),
        lambda: maker.open_row(rng, UPRIGHT),
        lambda: maker.statement_row(rng),
    )[kind]
    return draw(), _MIX[kind][1]


def _schedule(step: int, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / 100)
    return warm_up * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * step / steps)))
