"""`progressgym run --wandb`: the run folder stays the truth, W&B gets a copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from progressgym_env.benchmarks.episodes import EpisodeRecord, StepRecord
from progressgym_env.benchmarks.pool import Failure
from progressgym_env.benchmarks.run_folder import RunFolder, read_episodes
from progressgym_env.benchmarks.runner import RunConfig, run
from progressgym_env.benchmarks.summary import Row, Spread
from progressgym_env.benchmarks.tracking import RunTracker
from progressgym_env.errors import UnknownNameError
from progressgym_env.files import new_folder
from progressgym_env.wrappers.wandb_sink import VALUE_NAMES, WandbSink
from tests.benchmarks.made import cell, put
from tests.scripted import write_scripted
from tests.wrappers.wandb_runs import environment, in_a_process, read_run, run_folders

COMMAND = [sys.executable, "-m", "progressgym_env.cli", "run", "--challenge", "follow"]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records without models, which is enough for hold."""
    return write_scripted(tmp_path_factory.mktemp("recorded"))


def call(*arguments: str, history: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--agents", "hold", "--history", str(history), *arguments],
        cwd=cwd, env=environment(cwd / "home", **env), capture_output=True, text=True, check=False,
        timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_run_with_real_training_is_logged_whole(wandb_home: Path):
    """Two workers; hold is done long before lifelong, and is logged after it all the same."""
    config = RunConfig(
        challenge="predict", agents=("lifelong", "hold"), steps_ahead=7, device="cpu"
    )
    plain = run(config, lambda: new_folder(wandb_home / "plain"), workers=2)
    result = run(config, lambda: new_folder(wandb_home / "first"), workers=2, wandb="offline")
    folder = result.folder
    first, second = (r.folder / "episodes.jsonl" for r in (plain, result))
    assert first.read_bytes() == second.read_bytes()
    assert plain.wandb is None
    assert not (plain.folder / "wandb").exists()

    logged = read_run(folder)
    assert result.wandb == f"offline; upload it with: wandb sync {logged.folder}"
    assert (logged.name, logged.exit_code) == ("first", 0)
    assert logged.config == json.loads((folder / "config.json").read_text())
    episodes = read_episodes(folder)
    rows, ends = logged.having("century/reward"), logged.having("episode/score")
    assert [row["agent"] for row in rows] == ["lifelong", "hold"]
    assert [row["episodes"] for row in rows] == [1, 2]
    for episode, row, end in zip(episodes, rows, ends, strict=True):
        (step,) = episode.steps
        assert row["century/reward"] == step.reward
        assert row["century/examples"] == step.n_examples
        for who in ("judge", "examinee"):
            written = [row[f"{who}/{name}"] for name in VALUE_NAMES]
            assert written == list(getattr(step, f"{who}_values"))
        assert end["episode/score"] == end[f"score/{episode.agent}"] == episode.score
        assert (end["episode/agent"], end["episode/seed"]) == (episode.agent, 0)
    for row in result.rows:
        assert row.score is not None
        assert logged.summary[f"mean score/{row.agent}"] == row.score.mean
    (shown,) = logged.having("trajectories.path")
    picture = logged.file(shown["trajectories.path"])
    assert picture.read_bytes() == (folder / "trajectories.png").read_bytes()


def record(agent: str, seed: int) -> EpisodeRecord:
    rng = np.random.default_rng(seed)
    numbers = [tuple(row) for row in rng.random((6, 19)).tolist()]
    steps = tuple(
        StepRecord(
            f"C01{i}",
            "digest",
            i,
            numbers[i],
            numbers[i + 1],
            numbers[i + 2],
            0.25 + i,
            (("What?", f"{agent} {seed} {i}"), ("Why?", "so")),
        )
        for i in (1, 2)
    )
    head = (agent, "coevolve", "dpo", "current", 1, seed)
    return EpisodeRecord(*head, 0.5 + seed, 0.5, numbers[0], steps)


def sent_so_far(sink: WandbSink) -> int:
    """Ends of episodes that the running run has got."""
    assert sink._run is not None
    return int(sink._run.summary.get("episodes", 0))


def test_episodes_are_logged_in_their_order_as_soon_as_can_be(wandb_home: Path):
    cells = tuple(cell(agent, seed) for agent in ("a", "b") for seed in (0, 1))
    folder = RunFolder.new(new_folder(wandb_home / "run"), cells, {})
    sink = WandbSink(mode="offline", folder=folder.path)
    tracker = RunTracker(sink, folder)
    tracker.start()
    for ended in (cells[1], cells[3]):
        put(folder, ended, record(ended.agent, ended.seed))
        tracker.update()
    assert not sent_so_far(sink), "an earlier one is still being played"
    folder.add_failure(cells[0], Failure("OSError", "gone", "", expected=False))
    tracker.update()
    assert sent_so_far(sink) == 1
    # The first of "b" never ends.
    tracker.conclude(
        [Row("a", Spread.of([1.5]), Spread.of([0.25, 0.5]), None), Row("b", None, None, None)]
    )
    tracker.finish(failed=True)
    logged = read_run(folder.path)
    ends = logged.having("episode/score")
    assert [(end["episode/agent"], end["episode/seed"]) for end in ends] == [("a", 1), ("b", 1)]
    rows = logged.having("century/reward")
    assert [row["episodes"] for row in rows] == [0.5, 1, 1.5, 2]
    step = record("b", 1).steps[1]
    assert tuple(rows[3][f"proxy/{name}"] for name in VALUE_NAMES) == step.proxy_values
    assert logged.summary["mean score/a"] == 1.5
    assert "mean score/b" not in logged.summary
    assert logged.summary["skill/a"] == 0.375
    assert "skill/b" not in logged.summary
    assert logged.exit_code == 1, "an episode failed"
    rows = [row for increment in logged.table("dialogue") for row in increment]
    assert [row[2:] for row in rows[:2]] == [["What?", "a 1 1"], ["Why?", "so"]]
    assert [row[:2] for row in rows] == [
        [episode, century] for episode in (1, 2) for century in ("C011", "C012") for _ in range(2)
    ]


def test_the_command_says_where_the_run_is(history: Path, tmp_path: Path):
    done = call("--seeds", "2", "--wandb", "offline", "--out", "run", history=history, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (place,) = run_folders(tmp_path / "run")
    line = done.stdout.splitlines()[-1]
    assert line == f"W&B: offline; upload it with: wandb sync {place.relative_to(tmp_path)}"
    assert "wandb" not in done.stderr.lower(), "it goes without saying"
    logged = read_run(tmp_path / "run")
    ends = logged.having("episode/score")
    assert [end["episode/seed"] for end in ends] == [0, 1]
    scores = [episode.score for episode in read_episodes(tmp_path / "run")]
    assert [end["episode/score"] for end in ends] == scores


def test_without_a_key_the_command_says_so_in_a_line_and_goes_on(history: Path, tmp_path: Path):
    done = call(
        "--wandb", "online", "--json", "--quiet", "--out", "run", history=history, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["agent"] == "hold"
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: W&B is not available online (UsageError: No API key")
    assert len(read_episodes(tmp_path / "run")) == 1
    assert len(read_run(tmp_path / "run").having("episode/score")) == 1


def test_unless_asked_for_nothing_is_logged_whatever_the_environment_says(
    history: Path, tmp_path: Path
):
    done = call("--out", "run", history=history, cwd=tmp_path, WANDB_MODE="online")
    assert (done.returncode, "W&B" in done.stdout + done.stderr) == (0, False)
    assert not list(tmp_path.rglob("*wandb*"))


def test_a_missing_wandb_costs_one_line_and_no_folder(history: Path, tmp_path: Path):
    code = (
        "import sys; sys.modules['wandb'] = None\n"
        "from progressgym_env.cli import app\n"
        f"app(['run', '--history', {str(history)!r}, '--wandb', 'offline', '--out', 'run'])"
    )
    work = tmp_path / "work"
    work.mkdir()
    done = in_a_process(code, tmp_path / "home", work)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: logging to Weights & Biases needs the package wandb")
    assert "pip install 'progressgym-env[track]'" in line
    assert not list(work.iterdir())


def test_an_unknown_mode_is_found_before_anything_is_played(history: Path):
    def never() -> Path:
        raise AssertionError("a mistake must be found before a folder is made")

    config = RunConfig(challenge="follow", agents=("hold",), history=str(history))
    with pytest.raises(UnknownNameError, match="did you mean 'online'"):
        run(config, never, wandb="onlin")
