"""Observations of numbers only."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import FilterObservation

from progressgym_env import CHALLENGES
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.wrappers.drop_dialogue import DropDialogue, VectorDropDialogue
from progressgym_env.wrappers.value_history import ValueHistory, VectorValueHistory
from tests.envs.episodes import make, play
from tests.wrappers.stacks import (
    assert_survives_json,
    every_challenge,
    every_mode,
    in_step,
    side_by_side,
)

NUMBERS = ["century", "examinee_values", "judge_values", "preferences"]


@every_challenge
def test_keeps_everything_else(challenge):
    env, filtered = DropDialogue(make(challenge)), FilterObservation(make(challenge), NUMBERS)
    assert list(env.observation_space) == NUMBERS
    assert env.observation_space == filtered.observation_space
    for step, expected in zip(play(env, seed=1), play(filtered, seed=1), strict=True):
        assert data_equivalence(step, expected, exact=True)
        assert step[0] in env.observation_space
        assert len(step[4]["dialogue"]) == 4


@every_challenge
def test_survives_json(challenge):
    assert_survives_json(DropDialogue(gym.make(CHALLENGES[challenge])))


@every_challenge
def test_stable_baselines_has_nothing_to_say(challenge):
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3.check_env(DropDialogue(make(challenge)), skip_render_check=True)


def test_needs_a_dialogue():
    envs = VectorDropDialogue(side_by_side("follow", AutoresetMode.NEXT_STEP))
    for wrap in (
        lambda: DropDialogue(DropDialogue(make("follow"))),
        lambda: DropDialogue(gym.make("CartPole-v1")),
        lambda: VectorDropDialogue(envs),
    ):
        with pytest.raises(InvalidArgumentError, match="Dict observation with 'dialogue', got"):
            wrap()


@every_mode
@every_challenge
def test_vectors_do_as_environments_side_by_side(challenge, mode):
    batched = VectorDropDialogue(side_by_side(challenge, mode))
    single = side_by_side(challenge, mode, DropDialogue)
    assert list(batched.observation_space) == list(single.observation_space) == NUMBERS
    assert batched.observation_space == single.observation_space
    assert batched.single_observation_space == single.single_observation_space
    finals = 0
    for told, expected in in_step(batched, single):
        assert data_equivalence(told, expected, exact=True)
        assert told[0] in batched.observation_space
        finals += int(told[-1].get("_final_obs", np.zeros(1)).sum())
    assert (finals >= 6) == (mode is AutoresetMode.SAME_STEP)


def test_other_infos_stay_as_they_were():
    """What the environment below keeps of its infos is not written into."""
    envs = side_by_side("follow", AutoresetMode.SAME_STEP)
    told = []
    envs.step, step = lambda actions: told.append(step(actions)) or told[-1], envs.step
    wrapped = VectorDropDialogue(envs)
    wrapped.reset(seed=0)
    for _ in range(2):
        infos = wrapped.step(np.zeros(wrapped.action_space.shape, dtype=np.float32))[4]
    assert "dialogue" not in infos["final_obs"][0]
    assert "dialogue" in told[-1][4]["final_obs"][0]
    assert infos["final_obs"][1:].tolist() == [None, None]


@every_mode
def test_goes_with_the_history_of_values(mode):
    """Each keeps what the other adds or leaves, in either order."""
    batched = VectorDropDialogue(VectorValueHistory(side_by_side("follow", mode)))
    single = side_by_side("follow", mode, DropDialogue, ValueHistory)
    expected = [*NUMBERS, "judge_history", "judge_differences"]
    assert list(batched.observation_space) == list(single.observation_space) == expected
    for told, other in in_step(batched, single):
        assert data_equivalence(told, other, exact=True)


@every_challenge
def test_on_the_vector_environment_of_this_package(challenge):
    envs = VectorDropDialogue(gym.make_vec(CHALLENGES[challenge], num_envs=3, history="simulated"))
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space
    assert list(envs.observation_space) == NUMBERS
