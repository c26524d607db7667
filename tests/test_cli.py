"""The command line, in process and as users call it."""

import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from progressgym_env import __version__
from progressgym_env.benchmarks.defaults import DEFAULT_AGENTS
from progressgym_env.benchmarks.run_folder import read_episodes
from progressgym_env.cli import app
from progressgym_env.histories.embedded import build as builder
from progressgym_env.histories.loading import HISTORIES, load
from tests.benchmarks.damaged import damaged_history
from tests.processes import nobody_left
from tests.quick import QUICK

COMMAND = [sys.executable, "-m", "progressgym_env.cli"]
# Of nine centuries, as far ahead as can be: an episode then is a single step.
SHORT = ["run", "--challenge", "predict", "--steps-ahead", "7"]


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, list(arguments))


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def test_version():
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"progressgym {__version__}\n")


def in_a_new_process(code: str) -> str:
    """What ``code`` prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout


def test_help_names_every_option_and_loads_no_library():
    """Original defect 14: asking for help lands in a debugger."""
    code = (
        "import sys; from progressgym_env.cli import app\n"
        "try: app(['run', '--help'])\n"
        "finally: print(sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    printed = in_a_new_process(code)
    assert printed.splitlines()[-1] == "[]"
    for option in (
        "--challenge", "--agents", "--history", "--update", "--update-from", "--steps-ahead",
        "--seed", "--seeds", "--out", "--device", "--workers", "--threads", "--wandb", "--json",
        "--quiet",
    ):  # fmt: skip
        assert option in printed
    # Wherever the lines break.
    assert ",".join(DEFAULT_AGENTS) in re.sub(r"[\s│]+", "", printed)


def test_list_names_what_there_is():
    names = json.loads(invoke("list", "--json").output)
    assert names["challenges"] == ["follow", "predict", "coevolve"]
    assert {"hold", "lifelong", "extrapolative", "oracle"} <= set(names["agents"])
    assert names["histories"] == list(HISTORIES)
    assert names["updates"] == ["sft", "dpo", "rlhf"]
    lines = invoke("list").output.splitlines()
    assert lines[1].startswith("agents      hold, ")
    assert lines[2:] == [
        f"histories   {', '.join(HISTORIES)}, or the path of a history folder",
        "updates     sft, dpo, rlhf",
    ]


def test_listing_loads_no_torch():
    code = (
        "import sys; from progressgym_env.cli import app\n"
        "try: app(['list'])\n"
        "finally: print('torch' in sys.modules)"
    )
    assert in_a_new_process(code).splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--challenge", "folow"], "did you mean 'follow'"),
        (["--agents", "hold,lifelogn"], "did you mean 'lifelong'"),
        (["--agents", ","], "agents is empty"),
        (["--history", "embeded"], "did you mean 'embedded'"),
        (["--update", "dop"], "did you mean 'dpo'"),
        (["--steps-ahead", "3"], "belongs to the challenge predict"),
        (["--challenge", "predict", "--steps-ahead", "8"], "must be from 1 to 7"),
        (["--device", "cuda:99"], "device 'cuda:99'"),
        (["--tensor-parallel-size", "2"], "tensor_parallel_size=2 is for vLLM, and engine is"),
        (["--engine", "vllm", "--gpu-memory-utilization", "0"], "must be between 0 and 1"),
        (["--out", "full"], "full holds something already"),
    ],
)
def test_a_mistake_costs_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert [p.name for p in tmp_path.rglob("*")] == ["full", "notes.txt"], "nothing is written"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["history", "plot", "embedded", "--out", "nowhere/x.png"], "No such file or directory"),
        (["history", "plot", "embedded", "--out", "notes.txt/x.png"], "Not a directory"),
        (["history", "plot", "embedded", "--out", "folder.png"], "Is a directory"),
        (["history", "build-embedded", "--out", "notes.txt/x"], "Not a directory"),
        (["run", "--out", "notes.txt/x"], "Not a directory"),
    ],
)
def test_what_the_system_refuses_costs_one_line_with_the_path(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.png").mkdir()
    result = invoke(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {arguments[-1]}: {says}; give a path")
    assert {p.name for p in tmp_path.rglob("*")} == {"notes.txt", "folder.png"}


def test_a_run_without_a_place_for_its_folder_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    result = invoke("run")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: runs: File exists")


def test_a_write_that_fails_halfway_costs_one_line_with_the_path(tmp_path: Path):
    """As on a full disk: the error of the write itself names no file."""
    done = subprocess.run(
        [*COMMAND, "history", "plot", "embedded", "--out", "x.svg"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: x.svg: File too large")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing half-written is left"


@pytest.mark.parametrize("quantity", [["--json"], []])
def test_a_reader_that_leaves_early_is_no_error(quantity: list[str]):
    command = [*COMMAND, "history", "show", "embedded", *quantity]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "rror" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--chalenge", "follow"], "--challenge"),
        (["rum"], "Did you mean 'run'"),
        (["run", "--seed", "-1"], "Invalid value for '--seed'"),
        (["run", "--workers", "0"], "Invalid value for '--workers'"),
        (["run", "--seeds", "two"], "Invalid value for '--seeds'"),
    ],
)
def test_wrong_options_are_refused_with_a_hint(arguments: list[str], says: str):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_history_is_shown_with_its_provenance():
    history = load("embedded")
    result = invoke("history", "show", "embedded")
    assert result.exit_code == 0
    assert "9 centuries, synthetic" in result.output
    assert "Planted values" in result.output
    (line,) = [x for x in result.output.split("Planted")[0].splitlines() if "kill" in x]
    assert line.split() == ["kill", *(f"{value:.2f}" for value in history.values[:, 0])]
    shown = json.loads(invoke("history", "show", "embedded", "--json").output)
    assert shown["digest"] == history.digest
    assert shown["values"] == history.values.tolist()
    assert shown["centuries"] == list(history.names)


def test_an_unknown_history_is_refused_by_show_too(tmp_path: Path):
    assert "did you mean 'embedded'" in invoke("history", "show", "embeded").stderr
    assert "holds no history.json" in invoke("history", "show", str(tmp_path)).stderr


def test_building_into_a_folder_that_is_full_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    result = invoke("history", "build-embedded", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "holds something already" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_in_a_pipe_prints_plain_text_and_numbers_its_folder(tmp_path: Path):
    for number in (1, 2):
        done = call(*SHORT, "--agents", "hold", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folder = f"runs/predict-embedded-{number:03d}"
        assert f"Results: {folder}" in done.stdout
        assert (tmp_path / folder / "trajectories.svg").is_file()
    assert "\x1b" not in done.stdout + done.stderr
    assert re.search(r"^\[ +\d+ s\] hold: C014, 0 of 1 steps done$", done.stderr, re.M)
    assert "No skill" in done.stdout
    assert re.search(r"hold +0\.\d{4} +– +\d+\.\d", done.stdout)


def test_json_goes_to_stdout_alone(tmp_path: Path):
    done = call(
        *SHORT, "--agents", "hold,oracle", "--json", "--quiet", "--out", "run", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["folder"] == "run"
    hold, oracle = result["rows"]
    assert hold["agent"] == "hold"
    assert (hold["skill"]["mean"], oracle["skill"]["mean"]) == (0.0, 1.0)
    scores = [episode.score for episode in read_episodes(tmp_path / "run")]
    assert scores == [hold["score"]["mean"], oracle["score"]["mean"]]


def test_several_seeds_give_a_mean_and_a_spread(tmp_path: Path):
    done = call(*SHORT, "--agents", "hold", "--seed", "3", "--seeds", "2", cwd=tmp_path)
    # A narrow table wraps its title.
    assert "seeds 3 to 4, mean ± sd" in " ".join(done.stdout.split())
    assert re.search(r"hold +0\.\d{4} ± 0\.0000", done.stdout)
    (folder,) = (tmp_path / "runs").iterdir()
    assert [episode.seed for episode in read_episodes(folder)] == [3, 4]


def test_a_failing_episode_gives_exit_code_1(tmp_path: Path):
    history = str(damaged_history(tmp_path / "damaged"))
    done = call(*SHORT, "--agents", "hold,lifelong", "--history", history, cwd=tmp_path)
    assert done.returncode == 1
    assert "lifelong: failed: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "lifelong: 0 of 1 episodes finished." in done.stdout


def test_a_terminal_gets_bars(tmp_path: Path):
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *SHORT, "--agents", "hold"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "110"},
    )
    os.close(terminal)
    shown = _read_all(controller, process)
    assert process.wait(timeout=60) == 0
    assert "\x1b[" in shown
    assert "━" in shown
    assert "score 0." in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_what_is_finished_readable(tmp_path: Path, number: signal.Signals):
    out = tmp_path / "run"
    # In Follow, hold trains nothing and is done at once, long before lifelong.
    process = subprocess.Popen(
        [*COMMAND, "run", "--challenge", "follow", "--agents", "hold,lifelong", "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + 240
    while not (out / "episodes.jsonl").is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "interrupted" in errors
    assert f"What is finished stands in {out}" in errors
    assert "Traceback" not in errors
    assert "leaked" not in errors
    assert [episode.agent for episode in read_episodes(out)] == ["hold"]
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"
    assert (out / "trajectories.png").is_file()
    assert not list(out.glob(".*")), "no temporary file is left"
    assert nobody_left(process.pid)


def _read_all(controller: int, process: subprocess.Popen[bytes]) -> str:
    content = b""
    while True:
        ready, _, _ = select.select([controller], [], [], 0.2)
        if ready:
            try:
                content += os.read(controller, 65536)
            except OSError:  # Linux's end of file for a terminal whose other side is closed
                break
        elif process.poll() is not None:
            break
    os.close(controller)
    return content.decode(errors="replace")


def test_a_history_is_drawn(tmp_path: Path):
    result = invoke("history", "plot", "embedded", "--out", str(tmp_path / "embedded.png"))
    assert result.exit_code == 0
    assert (tmp_path / "embedded.png").read_bytes().startswith(b"\x89PNG")
    result = invoke("history", "plot", "embedded", "--out", str(tmp_path / "embedded.gif"))
    assert result.exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["embedded.png"]


def test_a_history_is_measured_again(quick_history: Path, tmp_path: Path):
    """The command that refused records name is there, and mends them."""
    folder = shutil.copytree(quick_history, tmp_path / "copy")
    header = json.loads((folder / "history.json").read_text())
    header["question_set"]["hash"] = "0" * 64
    (folder / "history.json").write_text(json.dumps(header))
    refused = invoke("history", "show", str(folder))
    assert refused.exit_code == 2
    assert f"progressgym history measure {folder}" in refused.output.replace("\n", "")
    assert invoke("history", "measure", str(folder), "--device", "cpu").exit_code == 0
    assert invoke("history", "show", str(folder)).exit_code == 0


def test_a_history_is_built_under_a_name(
    quick_history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The real builder, whole, with settings that learn nothing but are through in seconds."""
    monkeypatch.setattr(builder, "BuildSettings", lambda: QUICK)
    out = tmp_path / "mine"
    result = invoke(
        "history", "build-embedded", "--out", str(out), "--device", "cpu", "--name", "theirs"
    )
    assert result.exit_code == 0, result.output
    assert "Measured against planted values" in result.stdout
    for label, part in (
        ("held-out scenarios", "held_out"),
        ("acts never seen in value training", "unseen_acts"),
        ("control: base without adapters", "frozen_control"),
    ):
        measured = load(out).provenance["fidelity"][part].values()
        (line,) = [line for line in result.stdout.splitlines() if label in line]
        assert line.split(label)[1].split() == [f"{number:.3f}" for number in measured]
    assert f"Play it with: progressgym run --history {out}" in result.stdout.replace("\n", "")
    assert "measuring: 9 of 9" in result.stderr
    assert load(out).name == "theirs"
    assert load(quick_history).name == quick_history.name, "what it is called where nothing is said"
