"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from progressgym_env.histories.embedded.build import build
from tests.quick import QUICK, shortened


def pytest_sessionstart() -> None:
    """Let Ctrl-C be tested where the tests run in the background, too: shells ignore it there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for a busy core cost far more than they gain on models this small."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


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


@pytest.fixture(scope="session")
def short_history(quick_history: Path, tmp_path_factory) -> Path:
    """Four centuries of it, for whole episodes of real language models in seconds."""
    return shortened(quick_history, tmp_path_factory.mktemp("histories") / "short")
