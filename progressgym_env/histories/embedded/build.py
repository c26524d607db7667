"""Builds the embedded history: ``progressgym history build-embedded``.

Tokenizer → base model → one LoRA adapter a century, fitted to the planted values → measurement.
When the centuries are measured, nothing is read but weights, tokenizer and chat template.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from progressgym_env import __version__
from progressgym_env.files import new_folder
from progressgym_env.histories.embedded.grammar import load_grammar
from progressgym_env.histories.embedded.planted import CENTURIES, planted_values
from progressgym_env.histories.embedded.pretrain import (
    PretrainSettings,
    new_base,
    pretrain,
    tokenizer_texts,
    weighted_loss,
)
from progressgym_env.histories.embedded.tasks import Persona, RowMaker, make_row_maker
from progressgym_env.histories.embedded.tokenizer import train_tokenizer
from progressgym_env.histories.history import write_history
from progressgym_env.histories.records import measure_century, stack_records
from progressgym_env.models.language import LanguageHost, LanguageModel, resolve_device
from progressgym_env.models.packing import TokenRow
from progressgym_env.values.embedding import FloatArray, measure_values
from progressgym_env.values.questions import QuestionSet, load_questions, read_questions

__all__ = ["BuildSettings", "Fidelity", "FidelityReport", "build", "fidelity"]

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

    steps: int = 500
    rows: int = 12
    learning_rate: float = 1e-2
    view_share: float = 0.3


@dataclass(frozen=True)
class BuildSettings:
    """All settings of a build; recorded in the history's provenance."""

    vocab_size: int = 2048
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    fit: FitSettings = field(default_factory=FitSettings)


@dataclass(frozen=True)
class Fidelity:
    """How well measured values agree with planted ones.

    Attributes:
        pearson_r: over all centuries × dimensions.
        dimension_r: mean over dimensions of the correlation across centuries; dimensions whose
            planted value never changes have none and are left out.
        mean_absolute_error: over all entries.
    """

    pearson_r: float
    dimension_r: float
    mean_absolute_error: float


@dataclass(frozen=True)
class FidelityReport:
    """Fidelity of a build, with its controls.

    Attributes:
        held_out: scenarios never seen, acts known from value training.
        unseen_acts: scenarios never seen, acts that no value training saw.
        frozen_control: the base without any adapter, taken for every century.
        seconds: wall-clock of the build.
    """

    held_out: Fidelity
    unseen_acts: Fidelity
    frozen_control: Fidelity
    seconds: float


def build(
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    settings: BuildSettings | None = None,
    base: Path | None = None,
) -> FidelityReport:
    """Build the embedded history into the new folder ``out``.

    Args:
        out: a folder that is empty or does not exist.
        seed: decides everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        progress: called with (stage, steps done, steps in all).
        settings: for smaller or larger builds.
        base: the ``base`` folder of an earlier build, to be taken instead of training one. With
            the same seed and settings the result is the same.

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
    if base is None:
        _build_base(folder / "base", settings, streams, seed, resolve_device(device), tell)
    else:
        shutil.copytree(base, folder / "base")
    questions, planted = load_questions(), planted_values()
    host = LanguageHost(folder / "base", device=device, seed=seed)
    maker = make_row_maker(load_grammar(), host.tokenizer)
    fresh = host.snapshot()
    models = []
    for century, (persona, rng) in enumerate(
        zip(planted, streams["fit"].spawn(len(CENTURIES)), strict=True)
    ):
        state = host.trained(fresh, _fitting(maker, persona, settings.fit, rng))
        model = LanguageModel(host, state, questions)
        model.save_adapter(folder / "adapters" / CENTURIES[century])
        models.append(model)
        tell("century adapters", century + 1, len(CENTURIES))
    open_prompts = [prompt.text for prompt in maker.grammar.open_prompts]
    measured = []
    for century, rng in enumerate(streams["measure"].spawn(len(CENTURIES))):
        measured.append(measure_century(models[century], questions, open_prompts, rng))
        tell("measuring", century + 1, len(CENTURIES))
    records = stack_records(measured, planted)
    frozen = LanguageModel(host, fresh, questions).values().values
    report = FidelityReport(
        held_out=fidelity(records.values, planted),
        unseen_acts=fidelity(
            np.stack([measure_values(m, unseen_questions().eval).values for m in models]), planted
        ),
        frozen_control=fidelity(np.tile(frozen, (len(CENTURIES), 1)), planted),
        seconds=time.monotonic() - started,
    )
    write_history(
        folder,
        name="embedded",
        names=CENTURIES,
        base="base",
        questions=questions,
        records=records,
        provenance={
            "synthetic": True,
            "description": "Invented centuries with planted values; no claim about real history.",
            "package_version": __version__,
            "torch_version": torch.__version__,
            "seed": seed,
            "settings": asdict(settings),
            # Without the seconds: equal builds have equal files.
            "fidelity": {k: v for k, v in asdict(report).items() if k != "seconds"},
        },
    )
    return report


def _fitting(
    maker: RowMaker, persona: Persona, settings: FitSettings, rng: np.random.Generator
) -> Callable[[Any, Any], object]:
    return lambda model, tokenizer: fit_adapter(
        model, tokenizer.pad_token_id, maker, persona, settings, rng
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
        drawn = [_draw(maker, persona, rng, i % 8) for i in range(settings.rows)]
        loss = weighted_loss(
            peft_model.get_base_model(), [d[0] for d in drawn], [d[1] for d in drawn], pad_token
        )
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def _draw(
    maker: RowMaker, persona: Persona, rng: np.random.Generator, turn: int
) -> tuple[TokenRow, float]:
    """Of eight rows five are questions, one each is open, about concepts, about single acts."""
    if turn == 5:
        return maker.open_row(rng, persona), 0.3
    if turn == 6:
        return maker.concept_row(rng, persona), 1.0
    if turn == 7:
        return maker.judgement_row(rng, persona), 0.5
    return maker.value_row(rng, persona, scenario=rng.random() < 0.8), 1.0


def fidelity(measured: FloatArray, planted: FloatArray) -> Fidelity:
    """Compare (n_centuries, 19) measured values with planted ones."""
    moving = np.flatnonzero(np.ptp(planted, axis=0) > 1e-9)
    by_dimension = [_correlation(measured[:, d], planted[:, d]) for d in moving]
    return Fidelity(
        pearson_r=_correlation(measured.ravel(), planted.ravel()),
        dimension_r=float(np.mean(by_dimension)),
        mean_absolute_error=float(np.abs(measured - planted).mean()),
    )


def unseen_questions() -> QuestionSet:
    """Questions on held-out scenarios whose acts occur in no value training."""
    path = Path(str(files("progressgym_env.histories.embedded") / "unseen.jsonl"))
    return read_questions(path, name="unseen acts")


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
    model: Any = new_base(settings.pretrain, tokenizer, seed).to(device)
    pretrain(model, maker, settings.pretrain, streams["pretrain"], tokenizer.pad_token_id, tell)
    # Adapters are fitted on the base as it is shipped: rounded to 16 bits.
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _correlation(one: FloatArray, other: FloatArray) -> float:
    if np.ptp(one) == 0.0 or np.ptp(other) == 0.0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
