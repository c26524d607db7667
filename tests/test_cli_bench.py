"""``progressgym bench``, as users call it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from progressgym_env.benchmarks.run_folder import read_episodes
from progressgym_env.cli import app
from tests.benchmarks.damaged import damaged_history
from tests.processes import nobody_left

COMMAND = [sys.executable, "-m", "progressgym_env.cli", "bench"]
SMALL = ("--history", "simulated", "--agents", "hold,lifelong,oracle", "--quiet")


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, ["bench", *arguments])


def test_options_alone_make_a_benchmark_of_all_three_challenges(tmp_path: Path):
    out = tmp_path / "run"
    result = invoke(*SMALL, "--seeds", "2", "--out", str(out))
    assert result.exit_code == 0, result.output
    lines = (out / "episodes.jsonl").read_text().splitlines()
    assert len(lines) == 3 * 3 * 2
    assert all(0 < json.loads(line)["score"] < 1 for line in lines)
    for text in (
        "overall (IQM)",
        "follow",
        "predict",
        "coevolve",
        "oracle · dpo",
        "floor: uniform",
    ):
        assert text in result.output
    assert f"Results: {out}" in result.output


def test_a_file_and_json(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'history = "simulated"\n'
        "[[matrix]]\nagents = ['hold', 'oracle']\nchallenges = ['follow']\n"
        "[[matrix]]\nagents = ['lifelong']\nchallenges = ['follow']\nupdates = ['sft', 'dpo']\n"
    )
    result = invoke(str(file), "--out", str(tmp_path / "run"), "--json", "-q")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert [row["algorithm"] for row in said["rows"]] == [
        "hold · dpo", "oracle · dpo", "lifelong · sft", "lifelong · dpo",
    ]  # fmt: skip
    assert said["rows"][1]["tasks"]["follow"]["skill"]["value"] == pytest.approx(1)
    assert said["floors"]["follow"]["uniform"] == pytest.approx(0.75, abs=0.02)


def test_without_a_folder_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        result = invoke(*SMALL, "--challenges", "follow")
        assert f"Results: runs/bench-simulated-00{number}" in result.output


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "old"
    assert invoke(*SMALL, "--challenges", "follow", "--out", str(out)).exit_code == 0
    return out


def test_resuming_takes_the_folder_alone_and_repeated_options(old: Path, tmp_path: Path):
    out = str(shutil.copytree(old, tmp_path / "run"))
    before = (tmp_path / "run" / "episodes.jsonl").read_bytes()
    for options in ((), (*SMALL, "--challenges", "follow")):
        result = invoke("--resume", "--out", out, *options)
        assert result.exit_code == 0, result.output
        assert (tmp_path / "run" / "episodes.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--resume",), "--resume needs --out: the folder of the stopped run"),
        (("--resume", "--out", "nothing"), "is no run folder: it has no config.json"),
        (("--resume", "--out", "old", "--seeds", "2"), "seeds: [0] → [0, 1]"),
        (("--resume", "--out", "old", "--history", "embedded"), "history: simulated → embedded"),
        (("--out", "old"), "holds something already"),
        (("--jobs", "threads"), "unknown jobs 'threads'; known: processes, ray"),
        (("--gpus", "1"), "--gpus goes with --jobs ray"),
        (("--engine", "vlm"), "unknown engine 'vlm'; known: transformers, vllm"),
        (("--steps-ahead", "two"), "--steps-ahead two: whole numbers, separated by commas"),
        (("missing.toml",), "unknown matrix 'missing.toml'; known: PATH to a TOML file, paper"),
        (("paper", "--seeds", "2"), "--seeds 2 contradicts"),
        (("--agents", "lifelog"), "did you mean 'lifelong'"),
        (("--challenges", "folow"), "did you mean 'follow'"),
        (("--updates", "ppo"), "known: dpo, rlhf, sft"),
        (("--history", "embeded"), "did you mean 'embedded'"),
        (("--device", "cuda:99"), "device 'cuda:99'"),
    ],
)
def test_mistakes_cost_one_line_and_leave_no_folder(
    arguments: tuple[str, ...],
    says: str,
    old: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Original defect 14: mistakes land in a debugger."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(old, tmp_path / "old")
    before = sorted(p.name for p in tmp_path.iterdir())
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_failed_episode_is_told_and_costs_the_exit_code(tmp_path: Path):
    history = damaged_history(tmp_path / "damaged")
    arguments = ("--history", str(history), "--agents", "lifelong,hold", "--challenges", "predict")
    result = invoke(*arguments, "--steps-ahead", "7", "--out", str(tmp_path / "run"), "-q")
    assert result.exit_code == 1
    assert "predict+7-dpo-current-lifelong-seed0 failed" in result.output
    assert "incomplete" in result.output
    assert [e.agent for e in read_episodes(tmp_path / "run")] == ["hold"]


def test_an_interrupt_says_how_to_go_on_and_leaves_no_process(short_history: Path, tmp_path: Path):
    out = tmp_path / "run"
    arguments = ["--history", str(short_history), "--agents", "lifelong", "--device", "cpu"]
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--challenges", "coevolve", "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    limit = time.monotonic() + 240
    while not list((out / "cells").glob("[0-9]*")):
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert f"Go on with: progressgym bench --resume --out {out}" in told
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"
    assert nobody_left(process.pid)


def test_help_loads_no_library():
    code = (
        "import sys; from progressgym_env.cli import app\n"
        "try: app(['bench', '--help'])\n"
        "finally: print(sorted({'torch', 'ray', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    for option in ("--agents", "--challenges", "--updates", "--seeds", "--resume", "--jobs"):
        assert option in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
