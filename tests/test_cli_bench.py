"""``progressgym bench``, as users call it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from progressgym_env.benchmarks.bench import resumed
from progressgym_env.benchmarks.evidence import matrix_in
from progressgym_env.benchmarks.run_folder import matrix_of, read_episodes
from progressgym_env.cli import app
from tests.benchmarks.damaged import damaged_history
from tests.processes import nobody_left

COMMAND = [sys.executable, "-m", "progressgym_env.cli", "bench"]
SMALL = ("--history", "simulated", "--agents", "hold,lifelong,oracle", "--quiet")

ON_RAY = ("--jobs", "ray", "--engine", "vllm")


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


def test_vllms_share_of_memory_may_be_another_when_a_run_goes_on(tmp_path: Path):
    """No result depends on it; the number of GPUs, as that of threads, stays."""
    out = tmp_path / "run"
    begun = (*SMALL, "--challenges", "follow", "--engine", "vllm", "--tensor-parallel-size", "2")
    given = ("--gpu-memory-utilization", "0.6")
    assert invoke(*begun, *given, "--out", str(out)).exit_code == 0
    config = json.loads((out / "config.json").read_text())
    assert config["arguments"]["tensor_parallel_size"] == 2
    assert "gpu_memory_utilization" not in config["arguments"]
    assert resumed(out).gpu_memory_utilization == 0.6
    assert matrix_in(config, "simulated").gpu_memory_utilization == 0.6
    for options in (given, (), ("--gpu-memory-utilization", "0.3"), begun, (*begun, *given)):
        result = invoke("--resume", "--out", str(out), *options)
        assert result.exit_code == 0, result.output
    other = invoke("--resume", "--out", str(out), *begun[:-1], "4")
    assert other.exit_code == 2
    assert "tensor_parallel_size: 2 → 4" in other.stderr
    assert "engine" not in other.stderr


def test_the_share_of_a_run_that_goes_on_is_what_is_given_or_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "run"
    begun = (*SMALL, "--challenges", "follow", "--engine", "vllm")
    assert invoke(*begun, "--gpu-memory-utilization", "0.6", "--out", str(out)).exit_code == 0
    for options, share in (((), 0.6), (begun, 0.6), (("--gpu-memory-utilization", "0.3"), 0.3)):
        played: list[Any] = []
        with monkeypatch.context() as watched:
            watched.setattr("progressgym_env.benchmarks.bench.play_matrix", played_by(played))
            invoke("--resume", "--out", str(out), *options)
        assert [matrix.gpu_memory_utilization for matrix in played] == [share]


def test_a_command_is_never_taken_from_a_folder(tmp_path: Path):
    """Or whoever resumes or checks another's run would run what stands in it."""
    out, launch = tmp_path / "run", ("--launch", f"{sys.executable} -u")
    assert invoke(*SMALL, "--challenges", "follow", *launch, "--out", str(out)).exit_code == 0
    config = json.loads((out / "config.json").read_text())
    assert config["arguments"]["launched"] is True
    assert launch[1] not in json.dumps(config)
    for planted in (config, config["arguments"]):
        planted["launch"] = launch[1]
        assert matrix_of(config).launch is matrix_in(config, "simulated").launch is None
    alone = invoke("--resume", "--out", str(out))
    assert alone.exit_code != 0
    assert "a command is never taken from a folder: give --launch" in alone.stderr
    assert invoke("--resume", "--out", str(out), *launch).exit_code == 0
    checked = CliRunner().invoke(app, ["verify", str(out), "--replay"])
    assert checked.exit_code == 0, checked.output
    assert "training was launched" in checked.output
    plain = tmp_path / "plain"
    assert invoke(*SMALL, "--challenges", "follow", "--out", str(plain)).exit_code == 0
    launched = invoke("--resume", "--out", str(plain), *launch).stderr
    assert "arguments.launched: None → True" in launched
    assert "give --launch" not in launched


def played_by(played: list[Any]) -> Callable[..., None]:
    """In place of playing: keeps the matrix."""

    def keep(matrix: Any, *_: Any, **__: Any) -> None:
        played.append(matrix)
        raise KeyboardInterrupt

    return keep


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
        (("--tensor-parallel-size", "2"), "tensor_parallel_size=2 is for vLLM, and engine is"),
        (
            ("--gpu-memory-utilization", "0.6", "--engine", "transformers"),
            "gpu_memory_utilization=0.6 is for vLLM",
        ),
        (
            ("--engine", "vllm", "--gpu-memory-utilization", "1.5"),
            "gpu_memory_utilization=1.5 must be between 0 and 1",
        ),
        (
            (*ON_RAY, "--tensor-parallel-size", "4", "--gpus", "2"),
            "--gpus 2 is less than the 4 GPUs of --tensor-parallel-size 4; leave --gpus out",
        ),
        ((*ON_RAY, "--gpus", "1.5"), "--gpus 1.5 must be a part of one GPU, or a whole number"),
        (
            ("--resume", "--out", "old", "--gpu-memory-utilization", "0.6"),
            "gpu_memory_utilization=0.6 is for vLLM",
        ),
        (
            ("--resume", "--out", "old", *SMALL, "--challenges", "follow", "--engine", "vllm"),
            "engine: transformers → vllm",
        ),
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
