"""What tests of wrappers share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wrappers.wandb_runs import isolate


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for runs; wandb sees no settings but the test's own, and no network."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in isolate(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    runs = tmp_path / "runs"
    runs.mkdir()
    monkeypatch.chdir(runs)
    yield runs
    import wandb

    # It reads its environment once, and the next test has another.
    wandb.teardown()
