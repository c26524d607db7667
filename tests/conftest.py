"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from progressgym_env.histories.embedded.build import build
from tests.installed import Shelf, install_the_guides_package
from tests.quick import QUICK, few_questions, shortened


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
    """Made by the first process of the tests that asks for it, and shared by all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made = shared / "histories" / "quick"
    with FileLock(shared / "histories.lock"):
        if not made.exists():
            begun = tmp_path_factory.mktemp("begun") / "histories"
            _build_quickly(begun / "quick")
            begun.rename(made.parent)
    return made


def _build_quickly(folder: Path) -> None:
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


@pytest.fixture(scope="session")
def short_history(quick_history: Path, tmp_path_factory) -> Path:
    """Four centuries of it, for whole episodes of real language models in seconds."""
    return shortened(quick_history, tmp_path_factory.mktemp("histories") / "short")


@pytest.fixture(scope="session")
def brief_history(quick_history: Path, tmp_path_factory) -> Path:
    """The same, asked few questions: where only that models are trained and measured matters."""
    folder = tmp_path_factory.mktemp("histories") / "brief"
    return shortened(quick_history, folder, questions=few_questions())


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """Where pip has installed the package of docs/extending.md."""
    return install_the_guides_package(tmp_path_factory.mktemp("guide"))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch) -> Shelf:
    """Where packages can be put, as far as the present process sees."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return Shelf(tmp_path)
