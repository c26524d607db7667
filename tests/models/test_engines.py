"""Engines by name, and what is said where vLLM is not there; the real vLLM is in test_vllm."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import progressgym_env  # noqa: F401
from progressgym_env.errors import EngineError, InvalidArgumentError
from progressgym_env.histories.loading import load_one
from progressgym_env.models.engines import VllmSettings, check_engine
from progressgym_env.models.vllm_engine import start_engine

EMBEDDED = load_one("embedded")


def test_engines_by_name():
    assert check_engine("transformers") is None
    assert check_engine("vllm") == VllmSettings()
    settings = VllmSettings(tensor_parallel_size=2)
    assert check_engine(settings) is settings
    with pytest.raises(InvalidArgumentError, match="engine='vlm' must be one of transformers"):
        gym.make("ProgressGym/Follow-v0", engine="vlm")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: VllmSettings(gpu_memory_utilization=1.0), "must be between 0 and 1"),
        (lambda: VllmSettings(tensor_parallel_size=0), "must be 1 or more"),
        (lambda: VllmSettings(start_seconds=0), "must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], says: str):
    with pytest.raises(InvalidArgumentError, match=says):
        make()


def test_an_environment_without_vllm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("progressgym_env.models.vllm_engine._IN_MEMORY", tmp_path / "absent")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = EMBEDDED.model(0, "cpu")
    # Its last words are there although it has removed the folder by then.
    said = r"(?s)vLLM could not start .*No module named 'vllm'\)\. It said last:\n.*Traceback"
    with pytest.raises(EngineError, match=said):
        start_engine(model, VllmSettings(python=sys.executable))
    with pytest.raises(InvalidArgumentError, match="set PROGRESSGYM_VLLM_PYTHON to the"):
        start_engine(model, VllmSettings(python="/nowhere/python"))
    assert not list(tmp_path.iterdir()), "nothing is left"


def test_a_program_that_is_no_server_is_said():
    with pytest.raises(EngineError, match="the vLLM process ended with exit code"):
        start_engine(EMBEDDED.model(0, "cpu"), VllmSettings(python="/bin/false"))


def test_a_history_without_language_models_has_no_use_for_it():
    with pytest.raises(InvalidArgumentError, match="use engine='transformers'"):
        start_engine(load_one("simulated-embedded").model(0), VllmSettings())
