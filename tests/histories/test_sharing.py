"""Histories that are in use are shared, as long as their folder is what it was."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from importlib.resources import files
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import progressgym_env  # noqa: F401
from progressgym_env.errors import HistoryError
from progressgym_env.files import cache_folder
from progressgym_env.histories import History, folder, load
from progressgym_env.histories.declared import declaration
from progressgym_env.histories.prepare import prepare
from progressgym_env.values.questions import QuestionSet
from tests.histories.full_models import TEMPLATE, declare


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    data = Path(str(files("progressgym_env.histories.embedded") / "data"))
    return shutil.copytree(data, tmp_path / "copy")


def loaded(path: str | Path) -> History:
    found = load(path)
    assert isinstance(found, History)
    return found


def test_a_folder_in_use_is_read_once_into_memory(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history = loaded(copy)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(copy)
    assert loaded("copy") is loaded("link") is history
    # Elsewhere is another, whatever stands there.
    other = shutil.copytree(copy, tmp_path / "other")
    assert loaded(other) is not history
    gone = weakref.ref(history)
    del history
    gc.collect()
    assert gone() is None, "nothing keeps what nobody uses"


def test_a_folder_that_has_changed_is_read_anew(copy: Path, monkeypatch: pytest.MonkeyPatch):
    before = loaded(copy)
    header = copy / "history.json"
    header.write_text(header.read_text().replace("{", '{"note": "changed", ', 1))
    after = loaded(copy)
    assert after is not before
    assert after.digest != before.digest
    # Weights that are too large to be compared with their checksum.
    monkeypatch.setattr(folder, "_HASH_LIMIT", 0)
    weights = copy / "base" / "model.safetensors"
    host: Any = after.model(0, "cpu")
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(1, 1))
    again = loaded(copy)
    assert again is not after
    assert host.host is not again.model(0, "cpu").host  # type: ignore[attr-defined]
    assert loaded(copy) is again


def test_environments_of_a_prepared_history_share_its_model(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.copytree(prepared, cache_folder() / "histories" / "histllama-8b")
    envs = [
        gym.make("ProgressGym/Follow-v0", history="histllama-8b", device="cpu", dialogue_samples=1)
        for _ in range(2)
    ]
    hosts: list[Any] = []
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
        hosts.append(env.unwrapped.examinee.host)  # type: ignore[attr-defined]
    assert hosts[0] is hosts[1]


def test_a_full_model_in_memory_is_shared_until_its_folder_changes(
    copies: Path, asked: QuestionSet, tmp_path: Path
):
    declared = declaration(declare(copies, "C019", "C020", chat_template=TEMPLATE))
    prepare(declared, tmp_path / "out", asked, device="cpu")
    history = loaded(tmp_path / "out")
    host: Any = history.model(0, "cpu")
    assert host.host is loaded(tmp_path / "out").model(0, "cpu").host  # type: ignore[attr-defined]
    (copies / "C019" / "config.json").touch()
    with pytest.raises(HistoryError, match="has changed since it was measured"):
        loaded(tmp_path / "out").model(0, "cpu")
