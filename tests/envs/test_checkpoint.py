"""An episode put aside between two steps goes on to the same end, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

import progressgym_env
from progressgym_env.agents import LifelongAgent
from progressgym_env.envs.checkpoint import EpisodeState
from progressgym_env.envs.progress import ProgressEnv
from progressgym_env.errors import HistoryError, InvalidArgumentError
from tests.scripted import scripted_history


def make(challenge: str, history: Any, **more: Any) -> ProgressEnv:
    name = progressgym_env.CHALLENGES[challenge]
    env = gym.make(name, history=history, update="sft", device="cpu", **more).unwrapped
    assert isinstance(env, ProgressEnv)
    return env


def walk(env: ProgressEnv, observation: Any, n_steps: int) -> list[Any]:
    """What is shown and paid over some steps."""
    agent, seen = LifelongAgent(soft=True), []
    for _ in range(n_steps):
        action, _ = agent.predict(observation)
        observation, reward, terminated, _, info = env.step(action)
        values = env.examinee_embedding
        seen.append((observation, reward, terminated, info, values.values, values.log_probs))
    return seen


def through_json(state: EpisodeState) -> EpisodeState:
    arrays = {name: np.array(array) for name, array in state.arrays.items()}
    return EpisodeState(json.loads(json.dumps(state.numbers)), arrays)


@pytest.mark.parametrize("challenge", ["follow", "predict", "coevolve"])
@pytest.mark.parametrize("update_from", ["current", "initial"])
def test_it_goes_on_in_another_environment_to_the_same_bits(
    challenge: str, update_from: str, short_history: Path
):
    env = make(challenge, str(short_history), update_from=update_from)
    observation, _ = env.reset(seed=5)
    done = walk(env, observation, 1)
    state = env.save_state()
    assert state is not None
    expected = walk(env, done[-1][0], env.n_steps - 1)

    other = make(challenge, str(short_history), update_from=update_from)
    shown, info = other.restore_state(through_json(state))
    np.testing.assert_equal(shown, done[-1][0])
    assert info["dialogue"] == done[-1][3]["dialogue"]
    np.testing.assert_equal(walk(other, shown, env.n_steps - 1), expected)
    np.testing.assert_equal(other.trajectory.rewards, env.trajectory.rewards)


def test_the_start_can_be_put_aside_too(short_history: Path):
    env = make("coevolve", str(short_history))
    observation, _ = env.reset(seed=1)
    state = env.save_state()
    assert state is not None
    other = make("coevolve", str(short_history))
    shown, _ = other.restore_state(state)
    np.testing.assert_equal(walk(other, shown, 1), walk(env, observation, 1))


def test_what_need_not_or_cannot_be_put_aside():
    simulated = make("follow", "simulated")
    simulated.reset(seed=0)
    assert simulated.save_state() is None
    scripted = make("follow", scripted_history())
    observation, _ = scripted.reset(seed=0)
    assert scripted.save_state() is not None, "the first century's own model needs no arrays"
    walk(scripted, observation, 1)
    assert scripted.save_state() is None
    with pytest.raises(InvalidArgumentError, match="a simulated episode is not put aside"):
        simulated.restore_state(EpisodeState({"generator": rng_state(), "world": {}}, {}))


def rng_state() -> Any:
    return np.random.default_rng(0).bit_generator.state


def test_there_must_be_an_episode(short_history: Path):
    env = make("follow", str(short_history))
    with pytest.raises(ResetNeeded):
        env.save_state()


def test_an_adapter_of_another_shape_is_refused(short_history: Path):
    env = make("follow", str(short_history))
    observation, _ = env.reset(seed=0)
    walk(env, observation, 1)
    state = env.save_state()
    assert state is not None
    name = next(name for name in state.arrays if name.startswith("world/examinee/"))
    spoilt = {**state.arrays, name: state.arrays[name][:1]}
    with pytest.raises(HistoryError, match="the stored adapter does not fit"):
        env.restore_state(EpisodeState(state.numbers, spoilt))
