"""A whole history built in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from quick import QUICK

from progressgym_env.histories.embedded.build import build


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
