"""SkillReward: an episode's return is its skill."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from progressgym_env import CHALLENGES
from progressgym_env.agents import HoldAgent, OracleAgent
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.wrappers.skill_reward import SkillReward
from tests.scripted import scripted_history


def episode(env, agent, **reset):
    observation, _ = env.reset(**reset)
    total, state, ended = 0.0, None, False
    while not ended:
        action, state = agent.predict(observation, state, np.array([state is None]))
        observation, reward, ended, _, info = env.step(action)
        total += reward
    return total, info


@pytest.mark.parametrize("challenge", CHALLENGES)
@pytest.mark.parametrize("history", ["simulated", "scripted"])
def test_references_get_nought_and_one(challenge, history):
    source = scripted_history() if history == "scripted" else history
    env = SkillReward(gym.make(CHALLENGES[challenge], history=source))
    total, info = episode(env, HoldAgent(), seed=0)
    assert total == pytest.approx(0.0, abs=1e-9)
    assert info["skill"] == pytest.approx(total)
    if history == "scripted":
        played = env.unwrapped.history
        total, info = episode(env, OracleAgent(played, challenge), seed=0)
        assert total == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_given_scores_are_the_scale(challenge):
    env = gym.make(CHALLENGES[challenge], history="simulated")
    plain, told = episode(env, HoldAgent(), seed=4)
    wrapped = SkillReward(env, hold=0.5, oracle=0.75)
    total, info = episode(wrapped, HoldAgent(), seed=4)
    assert total == pytest.approx((plain - 0.5) / 0.25)
    assert info["score"] == told["score"]


def test_each_history_has_references_of_its_own():
    env = SkillReward(gym.make(CHALLENGES["follow"], history="simulated"))
    for seed in (1, 2):
        total, _ = episode(env, HoldAgent(), options={"history_seed": seed})
        # Nothing is left to chance where nothing is trained.
        assert total == pytest.approx(0.0, abs=1e-9)


def test_spec_round_trip():
    env = SkillReward(gym.make(CHALLENGES["coevolve"], history="simulated"), hold=0.9, oracle=0.95)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, SkillReward)
    assert episode(env, HoldAgent(), seed=3)[0] == episode(again, HoldAgent(), seed=3)[0]


def test_no_gap_is_no_scale():
    env = gym.make(CHALLENGES["follow"], history="simulated")
    with pytest.raises(InvalidArgumentError, match="above hold"):
        SkillReward(env, hold=0.9, oracle=0.9)
    with pytest.raises(InvalidArgumentError, match="ProgressGym"):
        SkillReward(gym.make("CartPole-v1"))
