"""Full models, questions, and a history that is prepared of both: what tests of it share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from progressgym_env.histories.declared import declaration
from progressgym_env.histories.prepare import prepare
from progressgym_env.values.questions import QuestionSet, load_questions
from tests.histories.full_models import CENTURIES, TEMPLATE, declare, publish
from tests.models.tiny import make_model, make_tokenizer


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three full models, as from a hub."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = make_tokenizer()
    for seed, century in enumerate(CENTURIES):
        make_model(tokenizer, seed=seed).merge_and_unload().save_pretrained(folder / century)
        tokenizer.save_pretrained(folder / century)
    return folder


@pytest.fixture
def copies(models: Path, tmp_path: Path) -> Path:
    return shutil.copytree(models, tmp_path / "models")


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> QuestionSet:
    """A few questions on every dimension, which are not the project's own."""
    return load_questions("moralevals", publish(tmp_path_factory.mktemp("published")))


@pytest.fixture(scope="session")
def prepared(models: Path, asked: QuestionSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "history"
    declared = declaration(declare(models, chat_template=TEMPLATE, description="Tiny."))
    prepare(declared, out, asked, device="cpu")
    return out
