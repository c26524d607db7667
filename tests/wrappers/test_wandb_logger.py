"""The W&B logger around environments, with the real wandb, offline."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from progressgym_env import __version__
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.wrappers._wandb import FINISH_SECONDS, INIT_SECONDS
from progressgym_env.wrappers.wandb_logger import WandbLogger
from progressgym_env.wrappers.wandb_sink import VALUE_NAMES, WandbSink
from tests.envs.episodes import digest, make, play, zero_policy
from tests.scripted import scripted_history, write_scripted
from tests.wrappers.stacks import assert_same_stack, rebuilt
from tests.wrappers.wandb_runs import ROOT, Run, read_run, read_run_at, run_folders

every_challenge = pytest.mark.parametrize("challenge", ["follow", "predict", "coevolve"])


def values(row: dict, who: str) -> np.ndarray:
    return np.array([row[f"{who}/{name}"] for name in VALUE_NAMES])


@every_challenge
def test_every_step_is_logged_as_it_was(challenge: str, wandb_home: Path):
    env = WandbLogger(make(challenge), mode="offline", folder=wandb_home)
    seen = []
    for seed in (0, 1):
        steps = list(play(env, seed=seed))
        seen.append((env.unwrapped.trajectory, steps))
    env.close()
    run = read_run(wandb_home)
    n_steps = len(seen[0][1]) - 1
    rows, ends = run.having("century/reward"), run.having("episode/score")
    assert len(run.rows) == 2 * n_steps + 2 * 2 + 1, "centuries, ends, dialogues, a picture"
    for number, (trajectory, steps) in enumerate(seen):
        of_episode = rows[number * n_steps : (number + 1) * n_steps]
        proxy = trajectory.proxy_values
        assert (proxy is not None) == (challenge == "coevolve")
        for i, row in enumerate(of_episode):
            judge = trajectory.judge_values[i + 1] if proxy is None else proxy[i]
            examinee = trajectory.examinee_values[i + 1]
            np.testing.assert_array_equal(values(row, "judge"), judge)
            np.testing.assert_allclose(judge, steps[i][0]["judge_values"], atol=1e-7)
            np.testing.assert_array_equal(values(row, "examinee"), examinee)
            if proxy is not None:
                np.testing.assert_array_equal(values(row, "proxy"), proxy[i + 1])
            assert row["century/reward"] == steps[i + 1][1]
            assert row["century/examples"] == steps[i + 1][4]["n_examples"] > 0
            assert row["century/name"] == steps[i][4]["century_name"]
            assert row["century/index"] == steps[i][0]["century"]
            assert row["episodes"] == number + (i + 1) / n_steps
            assert row["seed"] == number
            if challenge == "follow":
                assert row["century/cosine"] == pytest.approx(row["century/reward"] * n_steps)
        assert ends[number] == {
            "episodes": number + 1, "episode/seed": number,
            "episode/score": steps[-1][4]["score"],
            "episode/return": pytest.approx(sum(step[1] for step in steps), abs=1e-12),
        }  # fmt: skip
    assert run.exit_code == 0


def test_dialogue_and_picture_are_logged(wandb_home: Path):
    env = WandbLogger(make("coevolve", dialogue_samples=3), mode="offline", folder=wandb_home)
    spoken = []
    for number in (1, 2):
        for *_, info in play(env, seed=number):
            pairs = zip(info["dialogue_prompts"], info["dialogue"], strict=True)
            spoken += [[number, info["century_name"], *pair] for pair in pairs]
    env.close()
    run = read_run(wandb_home)
    increments = run.table("dialogue")
    assert [row for increment in increments for row in increment] == spoken
    assert len(increments) == 2
    assert len(spoken) == 2 * 5 * 3
    (shown,) = run.having("trajectories.path")
    picture = np.asarray(Image.open(run.file(shown["trajectories.path"])))
    assert picture.shape == (720, 1280, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50, "not blank"
    assert run.rows[-1] == shown


def test_dialogue_can_be_left_out(wandb_home: Path):
    env = WandbLogger(make("follow"), mode="offline", folder=wandb_home, dialogue=False)
    list(play(env))
    env.close()
    run = read_run(wandb_home)
    assert run.having("century/reward")
    assert not run.having("dialogue.path")


@every_challenge
def test_the_episode_stays_as_it_was_to_the_last_bit(challenge: str, wandb_home: Path):
    expected = digest(play(make(challenge), seed=5))
    env = WandbLogger(make(challenge), mode="offline", folder=wandb_home)
    assert digest(play(env, seed=5)) == expected
    env.close()


def test_the_config_says_what_was_played(wandb_home: Path):
    env = WandbLogger(
        make("predict", steps_ahead=2, update="sft"),
        project="mine",
        mode="offline",
        name="this one",
        config={"agent": "random", "update": "kept apart"},
        folder=wandb_home,
    )
    env.reset(seed=0)
    env.close()
    run, history = read_run(wandb_home), scripted_history()
    assert (run.project, run.name) == ("mine", "this one")
    config = run.config
    assert config["challenge"] == "predict"
    assert config["arguments"] == {
        "update": "sft", "update_from": "current", "dialogue_samples": 4, "device": "auto",
        "engine": "transformers", "launch": None, "questions": None,
        "steps_ahead": 2,
    }  # fmt: skip
    assert config["package_version"] == __version__
    assert config["history_digest"] == history.digest
    assert config["question_set_hash"] == history.questions.hash
    assert config["history"] == {
        "name": "scripted", "centuries": list(history.names), "synthetic": True,
    }  # fmt: skip
    assert config["versions"]["gymnasium"] == gym.__version__
    assert config["versions"]["wandb"] == metadata.version("wandb")
    assert (config["agent"], config["update"]) == ("random", "kept apart")


def test_simulated_histories_are_named_by_episode(wandb_home: Path):
    env = gym.make("ProgressGym/Follow-v0", history="simulated")
    env = WandbLogger(env, mode="offline", folder=wandb_home, dialogue=False)
    seeds = []
    for seed in (0, 1):
        list(play(env, seed=seed, policy=zero_policy))
        seeds.append(str(env.unwrapped.history.history_seed))
    env.close()
    run = read_run(wandb_home)
    assert run.config["history_digest"] is None
    assert [row["episode/history_seed"] for row in run.having("episode/score")] == seeds
    assert seeds[0] != seeds[1]


def test_an_episode_left_or_cut_short_has_no_score_and_is_counted(wandb_home: Path):
    env = WandbLogger(make("follow", max_episode_steps=2), mode="offline", folder=wandb_home)
    env.reset(seed=0)
    env.step(zero_policy(env))
    env.reset()
    for _ in range(2):
        *_, truncated, _ = env.step(zero_policy(env))
    assert truncated
    env.reset()
    env.step(zero_policy(env))
    env.close()
    run = read_run(wandb_home)
    assert [row["episodes"] for row in run.having("century/reward")] == [0.25, 1.25, 1.5, 2.25]
    assert not run.having("episode/score")
    assert "seed" not in run.having("century/reward")[-1]
    assert len(run.having("trajectories.path")) == 1


def test_closing_twice_does_no_harm_and_a_reset_starts_another_run(wandb_home: Path):
    env = WandbLogger(make("follow"), mode="offline", folder=wandb_home)
    for _ in range(2):
        list(play(env))
        env.close()
        env.close()
    runs: list[Run] = [read_run_at(place) for place in run_folders(wandb_home)]
    assert [len(run.having("episode/score")) for run in runs] == [1, 1]


def test_nothing_is_started_before_the_first_reset(tmp_path: Path):
    code = (
        "import sys; from tests.envs.episodes import make\n"
        "from progressgym_env.wrappers.wandb_logger import WandbLogger\n"
        "env = WandbLogger(make('follow'), mode='online'); env.close()\n"
        "print({'wandb', 'torch', 'stable_baselines3', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "set()\n", done.stderr
    assert not list(tmp_path.iterdir())


@every_challenge
def test_spec_survives_json(challenge: str, wandb_home: Path):
    history = wandb_home / "history"
    history.mkdir()
    # There are no models, so nobody may need one.
    own = {"history_epochs": 0, "examinee_epochs": 0} if challenge == "coevolve" else {}
    env = WandbLogger(
        make(challenge, history=str(write_scripted(history)), dialogue_samples=2, **own),
        project="mine",
        mode="offline",
        name="a name",
        config={"agent": "hold", "nested": {"seeds": [0, 1]}},
        folder=wandb_home / "runs",
        dialogue=False,
    )
    text = env.spec.to_json()
    assert json.loads(text)["additional_wrappers"][-1]["kwargs"]["folder"].endswith("runs")
    again = rebuilt(env)
    assert_same_stack(again, env)
    list(play(again, policy=zero_policy))
    again.close()
    run = read_run(wandb_home / "runs")
    assert (run.project, run.name, run.config["agent"]) == ("mine", "a name", "hold")
    assert run.having("episode/score")
    assert not run.having("dialogue.path")


def test_how_long_it_waits_is_documented():
    """It stops nothing, but starting and finishing a run may take as long as is told."""
    for documented in (WandbLogger, WandbSink):
        text = " ".join(str(documented.__doc__).split())
        assert f"Starting takes {INIT_SECONDS:g} seconds" in text
        assert f"finishing {FINISH_SECONDS:g}" in text
        assert "WANDB_INIT_TIMEOUT" in text
        assert "WANDB_FINISH_TIMEOUT" in text


def test_other_environments_are_refused():
    with pytest.raises(InvalidArgumentError, match="is no ProgressGym environment"):
        WandbLogger(gym.make("CartPole-v1"), mode="offline")


@pytest.mark.parametrize("config", [{"agent": object()}, {"x": {1, 2}}, ["agent"], 3])
def test_a_config_that_is_no_json_is_refused(config):
    with pytest.raises(InvalidArgumentError, match="must be a mapping of JSON-able values"):
        WandbLogger(make("follow"), mode="offline", config=config)
