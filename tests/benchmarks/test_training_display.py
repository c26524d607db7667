"""What is shown and logged while a policy is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from progressgym_env.benchmarks import train as training
from progressgym_env.benchmarks.train import describe, train
from progressgym_env.benchmarks.training_display import (
    TrainingTracker,
    training_progress,
    training_tracker,
)
from progressgym_env.errors import UnknownNameError
from progressgym_env.wrappers.sb3 import policy_vec_env
from progressgym_env.wrappers.wandb_sink import WandbSink
from tests.agents.small_training import config
from tests.benchmarks.test_display import console, shown
from tests.wrappers.conftest import wandb_home  # noqa: F401  # a fixture
from tests.wrappers.wandb_runs import read_run, run_folders

POINTS = [
    {"segment": 1, "steps": 256, "seconds": 1.5, "score": 0.5, "standard_error": 0.01},
    {"segment": 2, "steps": 512, "seconds": 12.0, "score": 0.75, "standard_error": 0.02},
]


class OnRollout(BaseCallback):
    """Calls a function after every rollout."""

    def __init__(self, act):
        super().__init__()
        self._act = act

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self._act(self.model)


@pytest.fixture(autouse=True)
def _few_episodes(monkeypatch):
    monkeypatch.setattr(training, "_FINAL_EPISODES", 20)
    monkeypatch.setattr(training, "_CURVE_EPISODES", 20)


def told(to, *, quiet=False):
    with training_progress(to, config(segments=2), quiet=quiet) as tell:
        for point in POINTS:
            tell(point)


def test_a_pipe_gets_a_line_a_point():
    to, file = console(terminal=False)
    told(to)
    assert file.getvalue().splitlines() == [
        "[      2 s]          256 steps: score 0.5000 ± 0.0100",
        "[     12 s]          512 steps: score 0.7500 ± 0.0200",
    ]


def test_a_terminal_gets_a_bar():
    to, file = console(terminal=True)
    told(to)
    last = shown(file).rstrip().splitlines()[-1]
    assert "score 0.7500 ± 0.0200" in last
    assert "━" in last
    assert "512/512 steps" in last


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_shows_nothing(terminal):
    to, file = console(terminal=terminal)
    told(to, quiet=True)
    assert file.getvalue() == ""


def test_the_tracker_logs_the_curves_of_every_segment(wandb_home: Path):  # noqa: F811
    """SB3 makes a new logger whenever it goes on, and the tracker finds each, once."""
    env = policy_vec_env("follow", 4)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=16, n_epochs=1, seed=0, device="cpu")
    sink = WandbSink(mode="offline", folder=wandb_home)
    tracker = TrainingTracker(sink)
    assert tracker.where is None
    for point in POINTS:
        model.learn(64, reset_num_timesteps=False, callback=OnRollout(tracker.rollout))
        tracker.point(point)
    sink.finish()
    run = read_run(wandb_home)
    assert str(run.folder) in tracker.where
    steps = [row["timesteps"] for row in run.having("rollout/ep_rew_mean")]
    assert steps == [32, 64, 96, 128]
    scores = run.having("fresh histories/score")
    assert [
        (r["timesteps"], r["fresh histories/score"], r["fresh histories/standard_error"])
        for r in scores
    ] == [(256, 0.5, 0.01), (512, 0.75, 0.02)]
    assert run.axes["fresh histories/score"] == "timesteps"


def test_a_training_is_logged_whole(wandb_home: Path):  # noqa: F811
    folder, chosen = wandb_home / "first", config(segments=2)
    with training_tracker(chosen, folder, "offline") as tracker:
        assert not folder.exists(), "a run starts with what is logged first"
        summary = train(chosen, folder, on_point=tracker.point, on_rollout=tracker.rollout)
        tracker.conclude(summary, folder / "curve.png")
    run = read_run(folder)
    assert (run.name, run.exit_code) == ("first", 0)
    assert run.config == describe(chosen) == json.loads((folder / "config.json").read_text())
    assert run.summary["score"] == summary["score"]
    compared = {row["agent"]: row["ahead"] for row in summary["compared"]}
    assert {"hold", "lifelong", "oracle"} <= set(compared)
    for agent, ahead in compared.items():
        assert run.summary[f"ahead of/{agent}"] == ahead
    (row,) = run.having("curve.path")
    assert run.file(row["curve.path"]).read_bytes() == (folder / "curve.png").read_bytes()
    points = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    logged = run.having("fresh histories/score")
    assert [row["fresh histories/score"] for row in logged] == [p["score"] for p in points]
    assert [row["timesteps"] for row in logged] == [p["steps"] for p in points]


def test_a_run_whose_training_was_interrupted_is_marked(wandb_home: Path):  # noqa: F811
    folder = wandb_home / "first"

    def interrupted() -> None:
        with training_tracker(config(), folder, "offline") as tracker:
            tracker.point(POINTS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_run(folder).exit_code == 1


def test_disabled_leaves_nothing_and_modes_are_checked(wandb_home: Path):  # noqa: F811
    folder = wandb_home / "first"
    with training_tracker(config(), folder, "disabled") as tracker:
        tracker.point(POINTS[0])
    assert not folder.exists()
    assert not run_folders(wandb_home)
    with (
        pytest.raises(UnknownNameError, match="did you mean 'online'"),
        training_tracker(config(), folder, "onlin"),
    ):
        raise AssertionError("it must not begin")
