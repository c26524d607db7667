"""From nothing to the embedded base model: tokenizer, knowledge, and an upright population.

Order of learning matters at this size: a model that meets varied values from the start does not
learn to compare. The base therefore first learns what acts amount to, beside a population that
upholds nearly everything (``LEARN``), then also what somebody of stated principles would choose
(``REFINE``). Values come loose only in the adapters of the centuries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
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

__all__ = [
    "LEARN",
    "REFINE",
    "Phase",
    "PretrainSettings",
    "pretrain",
    "tokenizer_texts",
    "weighted_loss",
]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Phase:
    """A stretch of pretraining.

    Attributes:
        steps: optimiser steps.
        learning_rate: peak of a cosine schedule with 100 warm-up steps.
        mix: for each kind of row, in the order of ``_draw``, (share of the rows, weight of its
            loss). Statements and open replies weigh little: most of their loss is chance.
        bare_steps: steps until scenarios appear; before, questions are asked bare.
        view_share: share of world-view questions among the questions of value.
    """

    steps: int
    learning_rate: float
    mix: tuple[tuple[float, float], ...]
    bare_steps: int = 0
    view_share: float = 0.2


# Questions, judgements, principles, knowledge of two acts, knowledge of views, open replies,
# statements.
LEARN = Phase(
    steps=2600,
    learning_rate=2e-3,
    mix=((0.25, 1.0), (0.1, 1.0), (0.0, 1.0), (0.35, 0.5), (0.1, 0.5), (0.1, 0.1), (0.1, 0.05)),
    bare_steps=900,
)
REFINE = Phase(
    steps=2000,
    learning_rate=1.5e-3,
    mix=((0.35, 1.0), (0.05, 1.0), (0.25, 1.0), (0.15, 0.5), (0.1, 0.5), (0.1, 0.25), (0.0, 0.0)),
    view_share=0.3,
)


@dataclass(frozen=True)
class PretrainSettings:
    """How the base model is made and trained.

    Attributes:
        phases: stretches of pretraining, in order.
        rows: packed rows a step.
        hidden_size: width of the Llama.
        n_layers: its depth.
    """

    phases: tuple[Phase, ...] = (LEARN, REFINE)
    rows: int = 20
    hidden_size: int = 128
    n_layers: int = 4


# Principles stated beside the one that a question is about.
_DISTRACTORS = 3
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


def pretrain(
    model: Any,
    maker: RowMaker,
    settings: PretrainSettings,
    rng: np.random.Generator,
    pad_token: int,
    progress: Progress,
) -> list[float]:
    """Train ``model`` in place; returns the loss of every step."""
    total = sum(phase.steps for phase in settings.phases)
    losses: list[float] = []
    model.train()
    for phase, stream in zip(settings.phases, rng.spawn(len(settings.phases)), strict=True):
        for loss in train_phase(model, maker, phase, settings.rows, stream, pad_token):
            losses.append(loss)
            progress("base model", len(losses), total)
    model.eval()
    return losses


def train_phase(
    model: Any,
    maker: RowMaker,
    phase: Phase,
    n_rows: int,
    rng: np.random.Generator,
    pad_token: int,
) -> Iterator[float]:
    """Train ``model`` in place, step by step; yields the loss of every step."""
    maker = replace(maker, view_share=phase.view_share)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    bounds = np.cumsum([share for share, _ in phase.mix])
    for step in range(phase.steps):
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate * _schedule(step, phase.steps)
        bare = 1.0 if step < phase.bare_steps else _LATE_BARE
        kinds = [int(np.searchsorted(bounds, i / n_rows, side="right")) for i in range(n_rows)]
        rows = [_draw(maker, rng, kind, bare) for kind in kinds]
        loss = weighted_loss(model, rows, [phase.mix[kind][1] for kind in kinds], pad_token)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield float(loss.detach())


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


def _draw(maker: RowMaker, rng: np.random.Generator, kind: int, bare: float) -> TokenRow:
    """A row of the given kind; ``bare`` is the probability that it has no scenario."""
    scenario = bool(rng.random() >= bare)
    draws: tuple[Callable[[], TokenRow], ...] = (
        lambda: maker.value_row(rng, UPRIGHT, scenario=scenario),
        lambda: maker.judgement_row(rng, UPRIGHT),
        lambda: maker.principle_row(
            rng, scenario=scenario, distractors=int(rng.integers(_DISTRACTORS + 1))
        ),
        lambda: maker.knowledge_row(rng, scenario=scenario),
        lambda: maker.view_knowledge_row(rng, scenario=scenario),
        lambda: maker.open_row(rng, UPRIGHT),
        lambda: maker.statement_row(rng),
    )
    return draws[kind]()


def _schedule(step: int, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / 100)
    return warm_up * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * step / steps)))
