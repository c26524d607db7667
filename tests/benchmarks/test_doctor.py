"""What a machine can run is found out on the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from progressgym_env.benchmarks import doctor
from progressgym_env.cli import app
from progressgym_env.files import cache_folder

GIB = 2**30


def test_the_command_tells_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = CliRunner().invoke(app, ["doctor", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.output)
    assert found["packages"]["torch"] == torch.__version__
    assert found["devices"][0]["device"] == "cpu"
    assert found["histories"]["embedded"]["prepared"]
    assert not found["histories"]["histllama-70b"]["prepared"]
    shown = CliRunner(env={"COLUMNS": "140"}).invoke(app, ["doctor"])
    for word in ("free memory", "histllama-8b", "training RL agents", "vllm", "hub:"):
        assert word in shown.output


def test_what_fits_is_free_memory_against_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu = {"device": "cpu", "name": "a processor", "free": 40 * GIB, "total": 64 * GIB}
    gpu = {"device": "cuda:0", "name": "a GPU", "free": 78 * GIB, "total": 80 * GIB}
    unknown = {"device": "cuda:1", "name": "another", "free": None, "total": None}
    monkeypatch.setattr(doctor, "_devices", lambda: [cpu, gpu, unknown])
    found = doctor.examine()["histories"]
    # 8.03 billion parameters: 45 GiB on a CPU in 32 bits, half of it on a GPU.
    assert found["histllama-8b"]["fits_on"] == ["cuda:0", "cuda:1"]
    assert round(found["histllama-8b"]["needs_bytes"] / GIB, 1) == 22.4
    assert found["histllama-70b"]["fits_on"] == ["cuda:1"]
    gpus = [{**gpu, "device": f"cuda:{index}"} for index in range(4)]
    monkeypatch.setattr(doctor, "_devices", lambda: [cpu, *gpus])
    assert doctor.examine()["histories"]["histllama-70b"]["fits_on"] == ["4 GPUs together"]
    (cache_folder() / "histories" / "histllama-8b").mkdir(parents=True)
    (cache_folder() / "histories" / "histllama-8b" / "history.json").touch()
    assert doctor.examine()["histories"]["histllama-8b"]["prepared"]
