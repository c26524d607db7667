"""SkillReward: an episode's return is its skill."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.wrappers import Autoreset
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env import CHALLENGES
from progressgym_env.agents import HoldAgent, OracleAgent, RandomAgent
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.wrappers import skill_reward
from progressgym_env.wrappers.skill_reward import LEAST_GAP, SkillReward
from tests.scripted import scripted_history
from tests.wrappers.stacks import assert_survives_json, rebuilt


def episode(env, agent, **reset):
    """Play an episode, None for the oracle: the return, and what was last told."""
    observation, info = env.reset(**reset)
    told = {info["skill_defined"]} if "skill_defined" in info else set()
    if agent is None:
        challenge = env.unwrapped
        history, ahead = challenge.history, max(challenge.steps_ahead, 1)
        kind = challenge.challenge.lower()
        agent = OracleAgent.of_values(history.values, history.questions, kind, ahead)
    total, state, ended = 0.0, None, False
    while not ended:
        action, state = agent.predict(observation, state, np.array([state is None]))
        observation, reward, ended, _, info = env.step(action)
        total += reward
        told |= {info["skill_defined"]} if "skill_defined" in info else set()
    assert len(told) <= 1
    return total, info


def assert_nought_and_one(holding, knowing, **reset):
    """Check that hold gets exactly nothing and the oracle 1; the environments are alike."""
    total, info = episode(holding, HoldAgent(), **reset)
    assert total == 0.0
    assert info.get("skill", 0.0) == pytest.approx(0.0, abs=1e-9)
    score = info["score"]
    total, info = episode(knowing, None, **reset)
    assert ("skill" in info) == info["skill_defined"]
    if info["skill_defined"]:
        assert total == pytest.approx(1.0, abs=1e-9)
        assert info["skill"] == pytest.approx(1.0, abs=1e-9)
    else:
        assert info["score"] <= score + LEAST_GAP
        assert total == pytest.approx(info["score"] - score)


arguments = st.fixed_dictionaries(
    {
        "history": st.sampled_from(["simulated", "simulated-train", "simulated-embedded"]),
        "update": st.sampled_from(["sft", "dpo"]),
        "update_from": st.sampled_from(["current", "initial"]),
        "dialogue_samples": st.sampled_from([1, 4]),
    }
)


@pytest.mark.parametrize("challenge", CHALLENGES)
@given(arguments=arguments, seed=st.integers(0, 2**63))
@settings(max_examples=12, deadline=None)
def test_references_get_nought_and_one_in_every_episode(challenge, arguments, seed):
    """With the episode's own chance, on which hold's score depends in Coevolve."""
    if challenge == "predict":
        arguments = {**arguments, "steps_ahead": 1 + seed % 3}
    pair = [SkillReward(gym.make(CHALLENGES[challenge], **arguments)) for _ in range(2)]
    assert_nought_and_one(*pair, seed=seed)
    # Generators that go on, and a history seed that is false.
    assert_nought_and_one(*pair)
    if arguments["history"] != "simulated-embedded":
        assert_nought_and_one(*pair, options={"history_seed": 0})
        assert_nought_and_one(*pair, options={"family": "curves"})
        assert_nought_and_one(*pair, seed=seed, options={"history_seed": 6, "family": "leads"})


def test_a_first_episode_without_a_seed_has_references_too():
    env = SkillReward(gym.make(CHALLENGES["coevolve"], history="simulated"))
    assert episode(env, HoldAgent())[0] == 0.0


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_the_episode_stays_as_it_was(challenge):
    plain = gym.make(CHALLENGES[challenge], history="simulated")
    wrapped = SkillReward(gym.make(CHALLENGES[challenge], history="simulated"))
    for reset in ({"seed": 3}, {}):
        observation, info = plain.reset(**reset)
        same, told = wrapped.reset(**reset)
        assert data_equivalence(same, observation, exact=True)
        assert isinstance(told.pop("skill_defined"), bool)
        assert data_equivalence(told, info, exact=True)
        for _ in range(plain.unwrapped.n_steps):
            action = np.full(plain.action_space.shape, 0.1, np.float32)
            observation, _, ended, _, info = plain.step(action)
            same, _, also, _, told = wrapped.step(action)
            assert data_equivalence(same, observation, exact=True)
            assert ended == also
        assert told["score"] == info["score"]


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_a_measured_history_is_played_once_with_the_reference_seed(challenge, monkeypatch):
    made = []

    def make(spec):
        made.append(spec)
        return gym.make(spec)

    history = scripted_history()
    pair = [
        SkillReward(gym.make(CHALLENGES[challenge], history=history), reference_seed=5)
        for _ in range(2)
    ]
    monkeypatch.setattr(skill_reward, "gym", SimpleNamespace(make=make))
    assert_nought_and_one(*pair, seed=5)
    # Another seed's chance: still close, and nothing is played anew.
    assert episode(pair[0], HoldAgent(), seed=6)[0] == pytest.approx(0.0, abs=0.2)
    assert episode(pair[1], None)[0] == pytest.approx(1.0, abs=0.2)
    assert len(made) == 2


@pytest.mark.parametrize("given", [{"hold": 1.0}, {"oracle": 0.001}])
def test_where_nothing_is_to_be_gained_there_is_no_skill(given):
    """What is paid is not blown up by dividing by next to nothing."""
    env = SkillReward(gym.make(CHALLENGES["coevolve"], history="simulated"), **given)
    plain = gym.make(CHALLENGES["coevolve"], history="simulated")
    for seed in range(3):
        random, random_too = RandomAgent(0), RandomAgent(0)
        total, info = episode(env, random, seed=seed)
        score, _ = episode(plain, random_too, seed=seed)
        hold = given.get("hold") or episode(plain, HoldAgent(), seed=seed)[0]
        assert total == pytest.approx(score - hold)
        assert info["skill_defined"] is False
        assert "skill" not in info


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_given_scores_are_the_scale(challenge):
    env = gym.make(CHALLENGES[challenge], history="simulated")
    plain, told = episode(env, HoldAgent(), seed=4)
    wrapped = SkillReward(env, hold=0.5, oracle=0.75)
    total, info = episode(wrapped, HoldAgent(), seed=4)
    assert total == pytest.approx((plain - 0.5) / 0.25)
    assert info["score"] == told["score"]


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_survives_json(challenge):
    make = {"history": "simulated", "dialogue_samples": 2}
    env = SkillReward(gym.make(CHALLENGES[challenge], **make), hold=0.5, reference_seed=3)
    assert_survives_json(env)
    assert episode(env, HoldAgent(), seed=3)[0] == episode(rebuilt(env), HoldAgent(), seed=3)[0]
    assert_survives_json(SkillReward(gym.make(CHALLENGES[challenge], history="simulated")))


def test_no_gap_is_no_scale():
    env = gym.make(CHALLENGES["follow"], history="simulated")
    for oracle in (0.9, 0.89, 0.9005):
        with pytest.raises(InvalidArgumentError, match=r"above hold=0.9 by more than 0.001"):
            SkillReward(env, hold=0.9, oracle=oracle)
    with pytest.raises(InvalidArgumentError, match="ProgressGym"):
        SkillReward(gym.make("CartPole-v1"))


def test_episodes_that_begin_by_themselves_are_refused():
    env = gym.make(CHALLENGES["follow"], history="simulated")
    with pytest.raises(InvalidArgumentError, match="inside Autoreset"):
        SkillReward(Autoreset(env))
    held = Autoreset(SkillReward(env))
    held.reset(seed=0)
    still = np.zeros(env.action_space.shape)
    assert sum(held.step(still)[1] for _ in range(2 * env.unwrapped.n_steps + 1)) == 0
