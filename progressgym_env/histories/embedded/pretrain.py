"""From nothing to the embedded base model: tokenizer, then knowledge, then varied personas.

Order of learning matters at this size. First a population that upholds everything, beside neutral
knowledge of what acts amount to; then values come loose, dimension by dimension, until every
question is asked of a random persona. A persona enters as a vector added to the first token; the
adapters of the centuries later learn to stand in for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from progressgym_env.histories.embedded.grammar import Grammar
from progressgym_env.histories.embedded.tasks import (
    Persona,
    RowMaker,
    random_persona,
    upright_persona,
)
from progressgym_env.models.packed_forward import edge_log_probs
from progressgym_env.models.packing import TokenRow, collate
from progressgym_env.values.dimensions import N_DIMENSIONS, N_TWO_WAY, VIEW_KEYS
from progressgym_env.values.forms import FORMS, render_prompt
from progressgym_env.values.questions import Question

__all__ = ["PretrainSettings", "new_base", "pretrain", "tokenizer_texts", "weighted_loss"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PretrainSettings:
    """How the base model is trained.

    Attributes:
        steps: optimiser steps.
        rows: packed rows a step.
        learning_rate: peak of a cosine schedule with 100 warm-up steps.
        upright_steps: steps with a population that upholds everything.
        loosening_steps: steps over which values come loose after that.
        bare_steps: steps until scenarios appear; before, questions are asked bare.
    """

    steps: int = 2400
    rows: int = 32
    learning_rate: float = 3e-3
    upright_steps: int = 500
    loosening_steps: int = 500
    bare_steps: int = 800


# Share of rows and weight of the loss for questions, judgements, knowledge, open replies and
# statements.
_MIX = ((0.45, 1.0), (0.60, 1.0), (0.85, 0.5), (0.93, 0.1), (1.00, 0.05))


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


def new_base(vocab_size: int, tokenizer: Any, seed: int) -> Any:
    """A randomly initialised Llama of about 1.1M parameters (4 layers, width 128, tied)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
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
    device = model.device
    projection = torch.nn.Parameter(
        torch.from_numpy(rng.normal(0.0, 0.1, (N_DIMENSIONS, model.config.hidden_size))).float().to(
            device
        )
    )
    optimizer = torch.optim.AdamW(
        [
            {"params": list(model.parameters()), "weight_decay": 0.05},
            {"params": [projection], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
    )
    model.train()
    losses = []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings.steps)
        looseness = np.clip((step - settings.upright_steps) / settings.loosening_steps, 0.0, 1.0)
        bare = 1.0 if step < settings.bare_steps else 0.15
        drawn = [
            _draw(maker, rng, i / settings.rows, float(looseness), bare)
            for i in range(settings.rows)
        ]
        signals = torch.from_numpy(np.stack([d[1] for d in drawn])).float().to(device)
        loss = weighted_loss(
            model, [d[0] for d in drawn], [d[2] for d in drawn], pad_token, signals @ projection
        )
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
    first_offset: Tensor | None = None,
) -> Tensor:
    """Expected cross-entropy a row: −Σ weight · log p over all edges, averaged over rows."""
    batch = collate(rows, pad_token)
    weights = batch.edge_weight * np.asarray(list(row_weights), dtype=np.float32)[batch.edge_row]
    log_probs = edge_log_probs(model, batch, first_offset)
    return -(log_probs * torch.from_numpy(weights).to(log_probs.device)).sum() / len(rows)


def _draw(
    maker: RowMaker, rng: np.random.Generator, share: float, looseness: float, bare: float
) -> tuple[TokenRow, NDArray[np.float64], float]:
    """A row, the persona's signal at the first token, and the weight of its loss."""
    persona = _loosened(rng, looseness)
    silent = np.zeros(N_DIMENSIONS)
    kind = next(i for i, (bound, _) in enumerate(_MIX) if share < bound)
    weight = _MIX[kind][1]
    scenario = rng.random() >= bare
    if kind == 0:
        return maker.value_row(rng, persona, scenario=scenario), _signal(persona), weight
    if kind == 1:
        return maker.judgement_row(rng, persona), _signal(persona), weight
    if kind == 2:
        # Knowledge does not depend on who is asked.
        signal = silent if rng.random() < 0.5 else _signal(persona)
        return maker.knowledge_row(rng, scenario=scenario), signal, weight
    if kind == 3:
        return maker.open_row(rng, persona), _signal(persona), weight
    return maker.statement_row(rng), silent, weight


def _loosened(rng: np.random.Generator, looseness: float) -> Persona:
    upright, free = upright_persona(rng), random_persona(rng)
    loose = rng.random(N_TWO_WAY) < looseness
    persona = upright.copy()
    persona[:N_TWO_WAY][loose] = free[:N_TWO_WAY][loose]
    if rng.random() < looseness:
        persona[N_TWO_WAY:] = free[N_TWO_WAY:]
    return persona


def _signal(persona: Persona) -> NDArray[np.float64]:
    two_way = np.log(persona[:N_TWO_WAY] / (1.0 - persona[:N_TWO_WAY])) / 2.0
    views = np.log(np.maximum(persona[N_TWO_WAY:], 1e-3))
    return np.concatenate([two_way, (views - views.mean()) / 2.0])


def _schedule(step: int, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / 100)
    return warm_up * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * step / steps)))
