"""Settings for a whole history in seconds: every stage for real, but hardly any training."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.histories.embedded.build import BuildSettings, FitSettings
from progressgym_env.histories.embedded.pretrain import LEARN, REFINE, PretrainSettings
from progressgym_env.histories.history import read_history, write_history
from progressgym_env.histories.records import Records, measure_centuries
from progressgym_env.models.language import LanguageModel
from progressgym_env.values.questions import QuestionSet, load_questions

QUICK = BuildSettings(
    vocab_size=512,
    pretrain=PretrainSettings(
        phases=(replace(LEARN, steps=4, bare_steps=2), replace(REFINE, steps=3)),
        rows=10,
        hidden_size=32,
        n_layers=1,
    ),
    fit=FitSettings(steps=2, rows=4),
)


def few_questions() -> QuestionSet:
    """Two questions a dimension and split: enough to measure, train and talk about."""
    taken, left = [], Counter[Any]()
    for question in load_questions().questions:
        key = question.split, *sorted(question.upholds)
        left[key] += 1
        if left[key] <= 2:
            taken.append(question)
    return QuestionSet("few", taken)


def shortened(
    history: Path,
    out: Path,
    n_centuries: int = 4,
    n_prompts: int = 16,
    questions: QuestionSet | None = None,
) -> Path:
    """A copy of a history that ends after some centuries and has few influence prompts.

    An episode then takes a few steps, and in Coevolve people learn in no time. With ``questions``
    it is measured anew: few take a tenth of the time in every step, too.
    """
    whole = read_history(history)
    names, records = whole.names[:n_centuries], whole.records
    if questions is not None:
        models = (whole.model(century, "cpu") for century in range(n_centuries))
        asked = (LanguageModel(model.host, model.state, questions) for model in models)
        records = measure_centuries(
            asked, questions, whole.open_prompts[:8], np.random.default_rng(0)
        )
    shutil.copytree(history / "base", out / "base")
    for name in names:
        shutil.copytree(history / "adapters" / name, out / "adapters" / name)
    write_history(
        out,
        name=out.name,
        names=names,
        base="base",
        questions=questions or whole.questions,
        records=Records(
            records.values[:n_centuries],
            records.standard_errors[:n_centuries],
            records.preferences[:n_centuries],
            records.open_replies[:n_centuries],
            tuple(spoken[:n_prompts] for spoken in records.influence_replies[:n_centuries]),
            None if records.planted is None else records.planted[:n_centuries],
        ),
        provenance=whole.provenance,
    )
    return out
