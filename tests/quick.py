"""Settings for a whole history in seconds: every stage for real, but hardly any training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from progressgym_env.histories.embedded.build import BuildSettings, FitSettings
from progressgym_env.histories.embedded.pretrain import LEARN, REFINE, PretrainSettings
from progressgym_env.histories.history import read_history, write_history
from progressgym_env.histories.records import Records

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


def shortened(history: Path, out: Path, n_centuries: int = 4, n_prompts: int = 16) -> Path:
    """A copy of a history that ends after some centuries and has few influence prompts.

    An episode then takes a few steps, and in Coevolve people learn in no time.
    """
    whole = read_history(history)
    names, records = whole.names[:n_centuries], whole.records
    shutil.copytree(history / "base", out / "base")
    for name in names:
        shutil.copytree(history / "adapters" / name, out / "adapters" / name)
    write_history(
        out,
        name=out.name,
        names=names,
        base="base",
        questions=whole.questions,
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
