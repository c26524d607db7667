"""Bad input: a clear error, before anything is trained."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from progressgym_env import CHALLENGES
from progressgym_env.errors import InvalidActionError, InvalidArgumentError, UnknownNameError
from tests.envs.episodes import make, random_policy
from tests.scripted import scripted_history

every_challenge = pytest.mark.parametrize("challenge", CHALLENGES)


@every_challenge
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:-1], r"shape \(18,\); it must be \(19,\)"),
        (lambda a: a[None], r"shape \(1, 19\)"),
        (lambda a: np.float32(0), r"shape \(\)"),
        (lambda a: np.where(np.arange(19) == 3, np.nan, a), r"action\[3\] is nan"),
        (lambda a: np.where(np.arange(19) == 2, -np.inf, a), r"action\[2\] is -inf"),
        (lambda a: a + 1.1, r"action\[0\] is 1\.1.*19 of 19"),
        (lambda a: np.full(19, 2), r"action\[0\] is 2"),
        (lambda a: ["much"] * 19, "dtype"),
        (lambda a: [[1], [1, 2]], "no array of numbers"),
        (lambda a: a.astype(bool), "dtype bool"),
        (lambda a: a.astype(complex), "dtype complex"),
        (lambda a: None, "dtype object"),
    ],
)
def test_bad_action_is_refused_before_anything_is_trained(challenge, change, message):
    env = make(challenge)
    env.reset(seed=0)
    phases: list[str] = []
    env.unwrapped.on_phase = phases.append
    good = np.zeros(19, dtype=np.float32)
    with pytest.raises(InvalidActionError, match=message):
        env.step(change(good))
    assert phases == []
    # The episode goes on as if nothing had happened.
    rest = [env.step(random_policy(0)(env))[:2]]
    env.reset(seed=0)
    assert data_equivalence(rest, [env.step(random_policy(0)(env))[:2]], exact=True)


@every_challenge
def test_reset_options(challenge):
    env = make(challenge)
    env.reset(options={})
    with pytest.raises(UnknownNameError, match="reset option 'century'"):
        env.reset(options={"century": 2})


@every_challenge
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"history": "embeded"}, UnknownNameError, "did you mean 'embedded'"),
        ({"history": "/nowhere/at/all"}, UnknownNameError, "PATH"),
        ({"update": "dbo"}, UnknownNameError, "did you mean 'dpo'"),
        ({"update_from": "curent"}, UnknownNameError, "did you mean 'current'"),
        ({"update_from": None}, InvalidArgumentError, "current, initial"),
        ({"dialogue_samples": 0}, InvalidArgumentError, "from 1 to 16"),
        ({"dialogue_samples": 17}, InvalidArgumentError, "from 1 to 16"),
        ({"dialogue_samples": 4.0}, InvalidArgumentError, "integer"),
        ({"dialogue_samples": True}, InvalidArgumentError, "integer"),
        ({"device": 0}, InvalidArgumentError, "unknown device 0; use 'auto'"),
        ({"device": "gpu"}, InvalidArgumentError, "unknown device 'gpu'; use 'auto'"),
        ({"device": "cpu:1"}, InvalidArgumentError, "unknown device 'cpu:1'"),
        ({"device": "cuda:x"}, InvalidArgumentError, "unknown device 'cuda:x'"),
        ({"device": ""}, InvalidArgumentError, "unknown device ''"),
        ({"device": None}, InvalidArgumentError, "unknown device None"),
        ({"history": None}, InvalidArgumentError, "history=None must be a name"),
        ({"history": 3}, InvalidArgumentError, "history=3 must be a name"),
        ({"steps_ahaed": 1}, UnknownNameError, "known: .*history.*update"),
        ({"histroy": "embedded"}, UnknownNameError, "did you mean 'history'"),
    ],
)
def test_bad_arguments(challenge, arguments, error, message):
    with pytest.raises(error, match=message):
        make(challenge, **arguments)


@every_challenge
def test_bad_render_mode(challenge):
    with (
        pytest.warns(UserWarning, match="not in the possible"),
        pytest.raises(UnknownNameError, match="did you mean 'ansi'"),
    ):
        make(challenge, render_mode="ansy")


@pytest.mark.parametrize("steps_ahead", [0, 4, -1, 1.0, "1", True, None])
def test_bad_steps_ahead(steps_ahead):
    with pytest.raises(InvalidArgumentError, match="from 1 to 3"):
        make("predict", steps_ahead=steps_ahead)


def test_predict_needs_something_to_predict():
    with pytest.raises(
        InvalidArgumentError, match="'scripted' has 2 centuries; Predict needs three"
    ):
        make("predict", history=scripted_history(2))
    make("predict", history=scripted_history(3))


@every_challenge
@pytest.mark.parametrize("device", ["auto", "cpu", "cpu:0", "cuda", "cuda:3"])
def test_device_names(challenge, device):
    observation, _ = make(challenge, device=device).reset(seed=0)
    assert observation["century"] == 1


@pytest.mark.parametrize("name", ["history_epochs", "examinee_epochs"])
@pytest.mark.parametrize("epochs", [-0.1, float("nan"), float("inf"), "1", None, True])
def test_bad_epochs(name, epochs):
    with pytest.raises(InvalidArgumentError, match=name):
        make("coevolve", **{name: epochs})


def test_an_argument_of_another_challenge_is_unknown():
    with pytest.raises(UnknownNameError, match="steps_ahead"):
        make("follow", steps_ahead=1)
    with pytest.raises(UnknownNameError, match=r"known: .*steps_ahead"):
        make("predict", history_epochs=1.0)
