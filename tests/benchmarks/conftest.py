"""Runs on real (if tiny) language models and in closed form, to be checked and changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.benchmarks.tampered import Tamperer, play, real_matrix, simulated_matrix, talking_matrix


@pytest.fixture(scope="session")
def real_run(quick_history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(real_matrix(quick_history), tmp_path_factory.mktemp("runs") / "real")


@pytest.fixture(scope="session")
def talking_run(short_history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(talking_matrix(short_history), tmp_path_factory.mktemp("runs") / "talking")


@pytest.fixture(scope="session")
def simulated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(simulated_matrix(), tmp_path_factory.mktemp("runs") / "simulated")


@pytest.fixture
def real(real_run: Path, tmp_path: Path) -> Tamperer:
    return Tamperer(shutil.copytree(real_run, tmp_path / "real"))


@pytest.fixture
def talking(talking_run: Path, tmp_path: Path) -> Tamperer:
    return Tamperer(shutil.copytree(talking_run, tmp_path / "talking"))


@pytest.fixture
def simulated(simulated_run: Path, tmp_path: Path) -> Tamperer:
    return Tamperer(shutil.copytree(simulated_run, tmp_path / "simulated"))
