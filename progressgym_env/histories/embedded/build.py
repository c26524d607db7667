"""Builds the embedded history: ``progressgym history build-embedded``.

Tokenizer → base model → one LoRA adapter a century, fitted to the planted values → measurement.
When the centuries are measured, nothing is read but weights, tokenizer and chat template.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from progressgym_env import __version__
from progressgym_env.files import new_folder
from progressgym_env.histories.embedded.fidelity import (
    FidelityReport,
    fidelity,
    reply_quality,
    unseen_questions,
)
from progressgym_env.histories.embedded.grammar import load_grammar
from progressgym_env.histories.embedded.planted import CENTURIES, planted_values
from progressgym_env.histories.embedded.pretrain import (
    PretrainSettings,
    pretrain,
    tokenizer_texts,
    weighted_loss,
)
from progressgym_env.histories.embedded.tasks import Persona, RowMaker, make_row_maker
from progressgym_env.histories.history import write_history
from progressgym_env.histories.records import Records, measure_centuries
from progressgym_env.histories.scratch import new_llama
from progressgym_env.histories.tokenizer import train_tokenizer
from progressgym_env.models.language import LanguageHost, LanguageModel, resolve_device
from progressgym_env.models.packing import TokenRow
from progressgym_env.values.embedding import FloatArray, measure_values
from progressgym_env.values.questions import load_questions

__all__ = ["BuildSettings", "FitSettings", "build", "draw_fitting_row", "fit_adapter"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FitSettings:
    """How a century's adapter is fitted.

    Attributes:
        steps: optimiser steps, the learning rate falling linearly to zero.
        rows: packed rows a step.
        learning_rate: at the start.
        view_share: share of world-view questions among the questions.
    """

    steps: int = 800
    rows: int = 12
    learning_rate: float = 1e-2
    view_share: float = 0.3


@dataclass(frozen=True)
class BuildSettings:
    """All settings of a build; recorded in the history's provenance."""

    vocab_size: int = 2048
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    fit: FitSettings = field(default_factory=FitSettings)


def build(
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    name: str | None = None,
    progress: Progress | None = None,
    settings: BuildSettings | None = None,
) -> FidelityReport:
    """Build the embedded history into the new folder ``out``.

    Args:
        out: a folder that is empty or does not exist.
        seed: decides everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        name: what the history calls itself; by default the folder's name.
        progress: called with (stage, steps done, steps in all).
        settings: for smaller or larger builds.

    Returns:
        Fidelity to the planted values, also stored in ``history.json``.

    Raises:
        InvalidArgumentError: ``out`` holds something already.
    """
    started = time.monotonic()
    folder = new_folder(out)
    settings = settings or BuildSettings()
    tell = progress or (lambda stage, done, total: None)
    streams = dict(
        zip(
            ("tokenizer", "pretrain", "fit", "measure"),
            np.random.default_rng(seed).spawn(4),
            strict=True,
        )
    )
    _build_base(folder / "base", settings, streams, seed, resolve_device(device), tell)
    questions, planted = load_questions(), planted_values()
    host = LanguageHost(folder / "base", device=device, seed=seed)
    frozen = LanguageModel(host, host.snapshot(), questions)
    models: list[LanguageModel] = []
    for persona, rng in zip(planted, streams["fit"].spawn(len(CENTURIES)), strict=True):
        models.append(_fitted(frozen, persona, settings.fit, rng))
        models[-1].save_adapter(folder / "adapters" / CENTURIES[len(models) - 1])
        tell("century adapters", len(models), len(CENTURIES))
    records = measure_centuries(
        models,
        questions,
        [prompt.text for prompt in load_grammar().open_prompts],
        streams["measure"],
        planted=planted,
        on_measured=lambda done: tell("measuring", done, len(CENTURIES)),
    )
    report = _report(records, planted, models, frozen, started)
    write_history(
        folder,
        name=folder.resolve().name if name is None else name,
        names=CENTURIES,
        base="base",
        questions=questions,
        records=records,
        provenance=_provenance(seed, settings, report),
    )
    return report


def _provenance(seed: int, settings: BuildSettings, report: FidelityReport) -> dict[str, Any]:
    return {
        "synthetic": True,
        "description": "Invented centuries with planted values; no claim about real history.",
        "package_version": __version__,
        "torch_version": torch.__version__,
        "seed": seed,
        "settings": asdict(settings),
        # Without the seconds: equal builds have equal files.
        "fidelity": {k: v for k, v in asdict(report).items() if k != "seconds"},
    }


def _fitted(
    frozen: LanguageModel, persona: Persona, settings: FitSettings, rng: np.random.Generator
) -> LanguageModel:
    """``frozen`` with an adapter fitted to ``persona``."""
    host = frozen.host
    maker = make_row_maker(load_grammar(), host.tokenizer)
    state = host.trained(
        frozen.state,
        lambda model, tokenizer: fit_adapter(
            model, tokenizer.pad_token_id, maker, persona, settings, rng
        ),
    )
    return LanguageModel(host, state, frozen.questions)


def _report(
    records: Records,
    planted: FloatArray,
    models: list[LanguageModel],
    frozen: LanguageModel,
    started: float,
) -> FidelityReport:
    unseen = unseen_questions().eval
    return FidelityReport(
        held_out=fidelity(records.values, planted),
        unseen_acts=fidelity(np.stack([measure_values(m, unseen).values for m in models]), planted),
        frozen_control=fidelity(np.tile(frozen.values().values, (len(models), 1)), planted),
        replies=reply_quality(load_grammar(), records.open_replies),
        seconds=time.monotonic() - started,
    )


def fit_adapter(
    peft_model: Any,
    pad_token: int,
    maker: RowMaker,
    persona: Persona,
    settings: FitSettings,
    rng: np.random.Generator,
) -> list[float]:
    """Fit the trainable adapter of ``peft_model`` to a persona; returns the loss of every step."""
    maker = replace(maker, view_share=settings.view_share)
    parameters = [p for p in peft_model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    losses = []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1.0 - step / settings.steps)
        drawn = [draw_fitting_row(maker, persona, rng, i) for i in range(settings.rows)]
        loss = weighted_loss(
            peft_model.get_base_model(), [d[0] for d in drawn], [d[1] for d in drawn], pad_token
        )
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def draw_fitting_row(
    maker: RowMaker, persona: Persona, rng: np.random.Generator, place: int
) -> tuple[TokenRow, float]:
    """The row at ``place`` in a step, and the weight of its loss.

    Rows 5, 6 and 7 are open, about a concept, about single acts; all others are questions.
    """
    if place == 5:
        return maker.open_row(rng, persona), 0.15
    if place == 6:
        return maker.concept_row(rng, persona), 1.0
    if place == 7:
        return maker.judgement_row(rng, persona), 0.5
    return maker.value_row(rng, persona, scenario=rng.random() < 0.8), 1.0


def _build_base(
    folder: Path,
    settings: BuildSettings,
    streams: dict[str, np.random.Generator],
    seed: int,
    device: str,
    tell: Progress,
) -> None:
    grammar = load_grammar()
    tell("tokenizer", 0, 1)
    tokenizer = train_tokenizer(tokenizer_texts(grammar, streams["tokenizer"]), settings.vocab_size)
    tell("tokenizer", 1, 1)
    maker = make_row_maker(grammar, tokenizer)
    model: Any = new_llama(
        tokenizer,
        hidden_size=settings.pretrain.hidden_size,
        n_layers=settings.pretrain.n_layers,
        seed=seed,
    ).to(device)
    pretrain(model, maker, settings.pretrain, streams["pretrain"], tokenizer.pad_token_id, tell)
    # Adapters are fitted on the base as it is shipped: rounded to 16 bits.
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
