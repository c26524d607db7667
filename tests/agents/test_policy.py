"""Trained policies: kept as safetensors and JSON, and agents like any other."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from progressgym_env import CHALLENGES
from progressgym_env.agents.policy import (
    POLICY_FILE,
    Policy,
    PolicyAgent,
    PolicyView,
    PolicyWarning,
)
from progressgym_env.agents.registry import make_agent
from progressgym_env.benchmarks.runner import RunConfig, run
from progressgym_env.errors import PolicyError, UnknownNameError
from progressgym_env.files import new_folder
from progressgym_env.histories import load
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.logits import log_odds
from tests.scripted import scripted_history


def policy(view=None, sizes=(16,), seed=0, **changed):
    view = view or PolicyView()
    rng = np.random.default_rng(seed)
    weights, n_in = [], view.n_features
    for n_out in (*sizes, N_DIMENSIONS):
        weights += [
            rng.normal(size=(n_out, n_in)).astype(np.float32) / np.sqrt(n_in),
            rng.normal(size=n_out).astype(np.float32),
        ]
        n_in = n_out
    fields = {"activation": "tanh", "squash": "clip", "training": {"seed": seed}, **changed}
    return Policy("coevolve", view, tuple(weights), **fields)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("squash", ["clip", "tanh"])
def test_written_and_read_again(tmp_path, activation, squash):
    one = policy(activation=activation, squash=squash)
    one.save(tmp_path)
    other = Policy.read(tmp_path)
    seen = np.random.default_rng(1).normal(size=(7, one.view.n_features)).astype(np.float32) * 5
    np.testing.assert_array_equal(one.pushes(seen), other.pushes(seen))
    assert (other.challenge, other.view, other.training) == ("coevolve", one.view, one.training)
    assert np.abs(one.pushes(seen)).max() <= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["policy.json", "policy.safetensors"]


def test_pushes_by_hand():
    view = PolicyView(length=2)
    first = np.zeros((1, view.n_features), np.float32)
    first[0, 0] = 2.0
    last = np.linspace(-2, 2, N_DIMENSIONS, dtype=np.float32)[:, None]
    one = Policy(
        "follow", view, (first, np.float32([0.5]), last, np.zeros(N_DIMENSIONS, np.float32)),
        "relu", "clip", {},
    )  # fmt: skip
    seen = np.zeros((2, view.n_features), np.float32)
    seen[0, 0], seen[1, 0] = 0.1, -3.0
    np.testing.assert_allclose(one.pushes(seen)[0], np.clip(0.7 * last[:, 0], -1, 1), rtol=1e-6)
    np.testing.assert_array_equal(one.pushes(seen)[1], 0)


def test_what_a_policy_sees():
    """Judge, its changes newest last, the gap to the examinee, time and what is known."""
    view, env = PolicyView(length=3), gym.make(CHALLENGES["follow"], history="simulated")
    observation, _ = env.reset(seed=1)
    batch = {key: np.asarray(value)[None] for key, value in observation.items()}
    history = view.started(batch)
    seen = view.features(history, batch)[0]
    judge, examinee = (
        log_odds(observation[f"{who}_values"]).astype(np.float32) for who in ("judge", "examinee")
    )
    parts = seen[:-3].reshape(5, N_DIMENSIONS)
    np.testing.assert_allclose(parts[0], judge / 2, rtol=1e-6)
    np.testing.assert_allclose(parts[1], 0, atol=1e-7)
    # The examinee starts as the people of the first century.
    np.testing.assert_allclose(parts[2], judge - examinee, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts[3], judge - examinee, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts[4], examinee / 2, rtol=1e-6)
    np.testing.assert_allclose(seen[-3:], [1 / 8, 0, 0])


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_a_batch_is_played_as_its_rows(challenge):
    agent = PolicyAgent(policy())
    envs = gym.make_vec(
        CHALLENGES[challenge], num_envs=3, history="simulated", autoreset_mode="SameStep"
    )
    singles = [gym.make(CHALLENGES[challenge], history="simulated") for _ in range(3)]
    together, state = envs.reset(seed=5)[0], None
    alone = [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)]
    states, starts = [None] * 3, np.ones(3, bool)
    for _ in range(envs.unwrapped.n_steps + 2):
        actions, state = agent.predict(together, state, starts)
        for i, env in enumerate(singles):
            action, states[i] = agent.predict(alone[i], states[i], starts[i : i + 1])
            np.testing.assert_allclose(action, actions[i], atol=1e-5)
            alone[i], _, ended, _, _ = env.step(actions[i])
            if ended:
                alone[i] = env.reset()[0]
        together, _, starts, _, _ = envs.step(actions)


def test_plays_on_other_questions_and_models():
    history = scripted_history(n_centuries=9)
    env = gym.make(CHALLENGES["coevolve"], history=history)
    agent, ended, state = PolicyAgent(policy(), history.questions), False, None
    observation, _ = env.reset(seed=0)
    while not ended:
        action, state = agent.predict(observation, state, np.array([state is None]))
        observation, _, ended, _, info = env.step(action)
    assert 0 < info["score"] < 1
    with pytest.raises(PolicyError, match="19 pairs"):
        PolicyAgent(policy()).predict(observation)


def damaged(folder, **changed):
    header = json.loads((folder / POLICY_FILE).read_text())
    (folder / POLICY_FILE).write_text(json.dumps({**header, **changed}))


def test_policies_of_another_space_or_version_are_refused(tmp_path):
    policy().save(tmp_path)
    damaged(tmp_path, view={"length": 6, "n_centuries": 9})
    with pytest.raises(PolicyError, match="another observation or action space"):
        Policy.read(tmp_path)
    policy().save(tmp_path)
    damaged(tmp_path, format_version=99)
    with pytest.raises(PolicyError, match=r"format version 99.*train"):
        Policy.read(tmp_path)
    policy().save(tmp_path)
    damaged(tmp_path, activation="eval")
    with pytest.raises(PolicyError, match="'eval' is none of"):
        Policy.read(tmp_path)
    damaged(tmp_path, activation="tanh", view={"lengths": 4})
    with pytest.raises(PolicyError, match="lengths"):
        Policy.read(tmp_path)


def test_what_is_no_policy_is_refused(tmp_path):
    for content in (None, "{", "[]"):
        if content is not None:
            (tmp_path / POLICY_FILE).write_text(content)
        with pytest.raises(PolicyError):
            Policy.read(tmp_path)
    policy().save(tmp_path)
    (tmp_path / "policy.safetensors").write_bytes(b"no tensors")
    with pytest.raises(PolicyError, match="can be read"):
        Policy.read(tmp_path)


def test_the_embedded_questions_are_the_default():
    env = gym.make(CHALLENGES["follow"], history=load("simulated-embedded"))
    action, _ = PolicyAgent(policy()).predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)


def test_a_policy_plays_what_it_was_trained_for(tmp_path):
    policy().save(tmp_path)
    name = f"policy:{tmp_path}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_agent(name, challenge="coevolve", history="simulated").name == name
        # Whoever does not say what is played knows what is.
        assert make_agent(name, steps_ahead=2).name == name
    for challenge in ("follow", "predict"):
        with pytest.raises(PolicyError, match="was trained for coevolve") as raised:
            make_agent(name, challenge=challenge, history="simulated")
        assert str(raised.value).startswith(name)
        assert (
            f"play coevolve, or train one with: progressgym train --challenge {challenge}"
            in str(raised.value)
        )
    with pytest.raises(UnknownNameError, match="did you mean 'follow'"):
        make_agent(name, challenge="folow")


def test_a_policy_for_another_lead_plays_with_one_warning(tmp_path):
    replace(policy(), challenge="predict", training={"steps_ahead": 3}).save(tmp_path)

    def made(steps_ahead):
        return make_agent(
            f"policy:{tmp_path}", challenge="predict", history="simulated", steps_ahead=steps_ahead
        )

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        made(3)
        assert not said
        for _ in range(3):
            made(1)
    (warning,) = said
    assert warning.category is PolicyWarning
    assert issubclass(PolicyWarning, UserWarning)
    assert "steps_ahead=3 and plays with steps_ahead=1" in str(warning.message)
    assert warning.filename == __file__, "where the agent was asked for"


def test_histories_longer_than_the_view_are_refused(tmp_path):
    policy(PolicyView(n_centuries=7)).save(tmp_path)
    arguments = {"challenge": "coevolve", "history": "simulated"}
    with pytest.raises(PolicyError, match=r"of 7 centuries, and this one has 9.*n_centuries=9"):
        make_agent(f"policy:{tmp_path}", **arguments)
    # The times of shorter ones are among those it met.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_agent("policy", challenge="coevolve", history=scripted_history(n_centuries=5))


def test_the_run_refuses_it_before_anything_is_played(tmp_path):
    policy().save(tmp_path / "policy")
    config = RunConfig(
        challenge="follow", agents=(f"policy:{tmp_path}/policy",), history="simulated"
    )
    with pytest.raises(PolicyError, match="was trained for coevolve, and follow is played"):
        run(config, lambda: new_folder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
