"""A whole history built in seconds: every stage for real, but hardly any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from progressgym_env.histories.embedded.build import BuildSettings, FitSettings, build
from progressgym_env.histories.embedded.pretrain import LEARN, REFINE, PretrainSettings

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


@pytest.fixture(scope="session")
def quick_history(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("histories") / "quick"
    stages: list[tuple[str, int, int]] = []
    report = build(
        folder,
        seed=3,
        device="cpu",
        settings=QUICK,
        progress=lambda stage, done, total: stages.append((stage, done, total)),
    )
    assert list(dict.fromkeys(stage for stage, _, _ in stages)) == [
        "tokenizer",
        "base model",
        "century adapters",
        "measuring",
    ]
    assert all(done <= total for _, done, total in stages)
    # Nothing was learned in six steps, and the report says so.
    assert report.held_out.mean_absolute_error > 0.1
    return folder
