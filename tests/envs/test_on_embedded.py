"""The environments on the embedded history: real language models, real training."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from importlib.resources import files
from pathlib import Path

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from progressgym_env import scoring
from progressgym_env.agents import HoldAgent, LifelongAgent
from progressgym_env.models.updates import SFTSettings, SFTUpdate
from tests.quick import few_questions, shortened

# Of nine centuries, as far ahead as can be: an episode then is a single step.
SHORT = {"steps_ahead": 7, "device": "cpu"}


@pytest.fixture(scope="module")
def short_history(tmp_path_factory):
    """Three centuries of the embedded history, asked few questions: a tenth of the work."""
    embedded = Path(str(files("progressgym_env.histories.embedded") / "data"))
    folder = tmp_path_factory.mktemp("histories") / "short"
    return str(shortened(embedded, folder, 3, 8, few_questions()))


def _play(env, agent, seed):
    observation, _ = env.reset(seed=seed)
    observations, rewards, terminated = [observation], [], False
    while not terminated:
        action, _ = agent.predict(observation)
        observation, reward, terminated, _, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    return observations, rewards, info


# The checkers take dozens of steps; what they look at does not depend on how much is trained.
BRIEFLY = SFTUpdate(SFTSettings(epochs=0.02))


@pytest.mark.parametrize(
    ("challenge", "arguments"),
    [
        ("Follow", {}),
        ("Predict", {}),
        ("Coevolve", {"history_epochs": 0.1, "examinee_epochs": 0.1}),
    ],
)
def test_both_checkers_are_content(challenge, arguments, short_history):
    arguments = {"history": short_history, "update": BRIEFLY, "device": "cpu", **arguments}
    env = gym.make(f"ProgressGym/{challenge}-v0", **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env_sb3(env.unwrapped, warn=True)
    assert [str(w.message) for w in caught if not _harmless(w)] == []


def _harmless(warning):
    """SB3 takes a byte box for a picture with odd numbers; the dialogue is text."""
    return "dialogue" in str(warning.message) or "image" in str(warning.message)


def test_return_is_the_official_score_of_follow():
    env = gym.make("ProgressGym/Follow-v0", device="cpu")
    observations, rewards, info = _play(env, HoldAgent(), seed=1)
    history = env.unwrapped.history
    own = np.repeat(history.values[:1], 8, axis=0)
    assert sum(rewards) == pytest.approx(scoring.follow_score(own, history.values[1:]), abs=1e-9)
    assert info["score"] == pytest.approx(sum(rewards), abs=1e-9)
    np.testing.assert_allclose(observations[0]["judge_values"], history.values[1], atol=1e-6)
    np.testing.assert_allclose(observations[0]["examinee_values"], history.values[0], atol=1e-6)


def test_return_is_the_official_score_of_coevolve():
    briefly = {"history_epochs": 0.2, "examinee_epochs": 0.2}
    env = gym.make("ProgressGym/Coevolve-v0", device="cpu", **briefly)
    _, rewards, info = _play(env, HoldAgent(), seed=1)
    trajectory, history = env.unwrapped.trajectory, env.unwrapped.history
    assert trajectory.proxy_values.shape == (9, 19)
    score = scoring.coevolve_score(trajectory.proxy_values, history.values)
    assert sum(rewards) == pytest.approx(score, abs=1e-9)
    assert info["score"] == pytest.approx(score, abs=1e-9)


def test_people_left_to_themselves_follow_their_own_history():
    """Else it would not be the examinee that holds people back in Coevolve."""
    env = gym.make("ProgressGym/Coevolve-v0", device="cpu", examinee_epochs=0.0)
    _play(env, HoldAgent(), seed=1)
    proxy, centuries = env.unwrapped.trajectory.proxy_values, env.unwrapped.history.values
    to_own, to_first = (np.abs(proxy[-1] - centuries[t]).mean() for t in (-1, 0))
    assert to_own < 0.6 * to_first
    assert scoring.cosine(proxy[4:], centuries[4:]).min() > 0.93


# Two steps, so that a trained examinee is trained on, and so is a proxy that has learned before.
_EPISODE = """
import gymnasium as gym, hashlib, sys, torch
import progressgym_env
from progressgym_env.agents import LifelongAgent
from progressgym_env.models.updates import DPOSettings, DPOUpdate
torch.set_num_threads(1)
history, *seeds = sys.argv[1:]
env = gym.make(
    "ProgressGym/Coevolve-v0", history=history, device="cpu",
    update=DPOUpdate(DPOSettings(epochs=0.5)), history_epochs=0.1, examinee_epochs=0.5,
)
for seed in map(int, seeds):
    observation, info = env.reset(seed=seed)
    digest, reward = hashlib.sha256(), 0.0
    for step in range(2):
        observation, reward, _, _, info = env.step(LifelongAgent().predict(observation)[0])
        digest.update(repr((reward, info["dialogue"])).encode())
        for key in sorted(observation):
            if key != "century":
                digest.update(bytes(memoryview(observation[key]).cast("B")))
    print(digest.hexdigest(), env.unwrapped.examinee.digest, env.unwrapped.proxy.digest)
"""


def _in_a_new_process(history, *seeds):
    """A line for each episode, which are played one after another."""
    done = subprocess.run(
        [sys.executable, "-c", _EPISODE, history, *map(str, seeds)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return done.stdout.splitlines()[-len(seeds) :]


def test_same_seed_same_episode_in_every_process(short_history):
    """Original defect 17. Seeds came from the clock."""
    (first,) = _in_a_new_process(short_history, 5)
    # Whatever else was played there before.
    other, again = _in_a_new_process(short_history, 6, 5)
    assert again == first
    for of_one, of_other in zip(first.split(), other.split(), strict=True):
        assert of_one != of_other


def test_training_changes_the_adapter_and_zero_action_changes_nothing():
    env = gym.make("ProgressGym/Predict-v0", **SHORT).unwrapped
    observation, _ = env.reset(seed=0)
    before = env.examinee
    digest = before.digest
    env.step(np.zeros(190, dtype=np.float32))
    assert env.examinee is before
    env.reset(seed=0)
    env.step(LifelongAgent().predict(observation)[0])
    assert env.examinee.digest != digest
    assert before.digest == digest
    changed = [name for name, t in env.examinee.state.items() if not t.equal(before.state[name])]
    assert len(changed) == len(before.state)


@pytest.mark.parametrize("update", ["sft", "dpo"])
def test_an_update_moves_the_values_towards_the_labels(update):
    """Trained on train questions, measured on eval questions: what is learned carries over."""
    env = gym.make("ProgressGym/Follow-v0", update=update, device="cpu").unwrapped
    observation, _ = env.reset(seed=0)
    before = env.examinee.values().values
    goal = env.history.values[8] - before
    pairs = env.history.questions.pairs
    wanted = env.history.preferences[8] - env.history.preferences[0]
    observation, *_ = env.step(np.clip(wanted, -1, 1).astype(np.float32))
    moved = observation["examinee_values"] - before
    assert len(pairs) == 190
    assert np.corrcoef(moved, goal)[0, 1] > 0.7


def test_memory_stays_where_it_is_over_twenty_episodes(short_history, tmp_path):
    """Coevolve does everything there is to do: it trains, measures, replies and imitates."""
    process = psutil.Process()
    # An episode of two centuries is a single step.
    history = shortened(Path(short_history), tmp_path / "two", n_centuries=2)
    env = gym.make(
        "ProgressGym/Coevolve-v0", history=str(history), device="cpu",
        history_epochs=0.2, examinee_epochs=0.2,
    )  # fmt: skip
    agent, used = LifelongAgent(), []
    for seed in range(20):
        _play(env, agent, seed)
        gc.collect()
        used.append(process.memory_info().rss / 2**20)
    # The first episode loads libraries and fills caches.
    assert used[-1] - used[0] < 60, used
