"""Embeddings seen so far: the stack, and the wrappers in every autoreset mode."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.wrappers import FlattenObservation
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from progressgym_env import CHALLENGES
from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.values.dimensions import N_TWO_WAY
from progressgym_env.values.logits import log_odds
from progressgym_env.wrappers.value_history import (
    SCALES,
    ValueHistory,
    ValueStack,
    VectorValueHistory,
    differences,
    pushed,
    scaled,
    started,
)
from tests.envs.episodes import make, play, random_policy
from tests.wrappers.stacks import (
    assert_survives_json,
    every_challenge,
    every_mode,
    in_step,
    side_by_side,
)

every_scale = pytest.mark.parametrize("scale", SCALES)

N = 3
embeddings = arrays(np.float32, (N, 19), elements=st.floats(0, 1, width=32))
masks = arrays(np.bool_, (N,))
moves = st.lists(st.tuples(st.sampled_from(["start", "push"]), masks, embeddings), max_size=8)


def in_logits(values):
    """What the logit scale means, from its words."""
    p = np.clip(np.asarray(values, dtype=np.float64), 0.01, 0.99)
    odds = np.log(p / (1 - p))
    return np.where(np.arange(19) < N_TWO_WAY, odds, np.log(p))


@given(moves, st.integers(1, 4), st.sampled_from(SCALES), st.booleans())
@settings(deadline=None)
def test_the_stack_remembers_what_lists_remember(steps, length, scale, by_index):
    """Rows chosen by mask or by indices; each row is an episode of its own."""
    stack, lists = ValueStack(N, length, scale), {}
    for move, mask, values in [("start", np.ones(N, dtype=bool), np.eye(N, 19)), *steps]:
        rows = np.flatnonzero(mask) if by_index else mask
        getattr(stack, move)(rows, values[mask])
        for row in np.flatnonzero(mask):
            lists[row] = ([] if move == "start" else lists[row]) + [values[row]]
    # A shorter episode than the window is filled with its first embedding.
    expected = np.array(
        [[seen[0]] * (length - len(seen)) + seen[-length:] for seen in lists.values()]
    )
    expected = in_logits(expected) if scale == "logit" else expected
    assert stack.history.dtype == stack.differences.dtype == np.float32
    np.testing.assert_allclose(stack.history, expected, atol=1e-5)
    np.testing.assert_allclose(stack.differences, np.diff(expected, axis=1), atol=1e-5)


@given(st.lists(embeddings, min_size=1, max_size=6), st.integers(1, 4), st.sampled_from(SCALES))
@settings(deadline=None)
def test_functions_do_what_the_stack_does(shown, length, scale):
    stack = ValueStack(N, length, scale)
    stack.start(slice(None), shown[0])
    history = started(scaled(shown[0], scale), length)
    for values in shown[1:]:
        before = history.copy()
        following = pushed(history, scaled(values, scale))
        assert (history == before).all(), "changed in place"
        history = following
        stack.push(slice(None), values)
    assert (stack.history == history).all()
    assert (stack.differences == differences(history)).all()
    alone = started(scaled(shown[0][0], scale), length)
    for values in shown[1:]:
        alone = pushed(alone, scaled(values[0], scale))
    assert (alone == history[0]).all(), "no leading axis is needed"


def test_what_the_stack_gives_may_be_changed_by_its_owner():
    stack = ValueStack(2, 3)
    given_values = np.full((2, 19), 0.5, dtype=np.float32)
    stack.start(slice(None), given_values)
    stack.history[...] = stack.differences[...] = given_values[...] = 7
    assert (stack.history == 0.5).all()
    assert (stack.differences == 0).all()


def test_the_scales():
    values = np.array([0.0, 0.005, 0.3, 1.0] + [0.5] * 11 + [0.0, 0.25, 0.75, 1.0])
    assert (scaled(values, "probability") == values.astype(np.float32)).all()
    logits = scaled(values, "logit")
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, in_logits(values), rtol=1e-5)
    np.testing.assert_allclose(logits[[0, 3]], [-4.59512, 4.59512], rtol=1e-5)
    np.testing.assert_allclose(logits[[15, 18]], [-4.60517, -0.0100503], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4), "n_envs=0"),
        ((1, 0), "length=0"),
        ((1, 2.0), "length=2.0"),
        ((1, 4, "logits"), "did you mean 'logit'"),
    ],
)
def test_arguments_of_the_stack_are_checked(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        ValueStack(*arguments)


def test_a_column_is_no_embedding():
    """It would be broadcast to all nineteen."""
    stack = ValueStack(2, 3)
    with pytest.raises(InvalidArgumentError, match=r"\(2, 1\); they must be \(\.\.\., 19\)"):
        stack.start(slice(None), np.zeros((2, 1)))
    with pytest.raises(UnknownNameError, match="did you mean 'logit'"):
        scaled(np.zeros(19), "logits")


@given(st.lists(arrays(np.float32, 19, elements=st.floats(0, 1, width=32)), max_size=4))
@settings(deadline=None)
@pytest.mark.parametrize("scale", SCALES)
def test_whatever_is_observed_lies_in_the_space(scale, space_of, shown):
    stack = ValueStack(1, 3, scale)
    stack.start(slice(None), np.zeros(19))
    for values in [*shown, np.ones(19), np.zeros(19)]:
        stack.push(slice(None), values)
        assert stack.history[0] in space_of[scale]["judge_history"]
        assert stack.differences[0] in space_of[scale]["judge_differences"]


@pytest.fixture(scope="module")
def space_of():
    return {scale: ValueHistory(make("follow"), 3, scale).observation_space for scale in SCALES}


@every_scale
def test_the_bounds_are_reached(scale, space_of):
    """Finite, and as tight as they can be."""
    stack = ValueStack(1, 3, scale)
    history, changes = (space_of[scale][f"judge_{key}"] for key in ("history", "differences"))
    for bounds, first, second in (((0, 1), 0, 1), ((1, 0), 1, 0)):
        stack.start(slice(None), np.full(19, first))
        stack.push(slice(None), np.full(19, second))
        extremes = (history.low, history.high)
        assert (stack.history[0, 0] == extremes[bounds[0]][0]).all()
        assert (stack.history[0, 2] == extremes[bounds[1]][0]).all()
        assert (stack.differences[0, 1] == (changes.high if second else changes.low)[0]).all()
    assert (history.shape, changes.shape) == ((3, 19), (2, 19))
    assert np.isfinite(changes.high).all()


@every_scale
@every_challenge
def test_the_wrapper_shows_what_was_shown(challenge, scale):
    env = ValueHistory(make(challenge), length=3, scale=scale)
    for seed in (0, 1):
        shown = []
        plain = play(make(challenge), seed=seed)
        for step, expected in zip(play(env, seed=seed), plain, strict=True):
            observation = dict(step[0])
            history = observation.pop("judge_history")
            changes = observation.pop("judge_differences")
            assert data_equivalence((observation, *step[1:]), expected, exact=True)
            values = expected[0]["judge_values"]
            shown.append(log_odds(values) if scale == "logit" else values)
            filled = [shown[0]] * (3 - len(shown)) + shown[-3:]
            np.testing.assert_allclose(history, filled, rtol=1e-6)
            assert (changes == history[1:] - history[:-1]).all()
            assert (changes[: max(0, 3 - len(shown))] == 0).all()
            assert step[0] in env.observation_space
        assert np.abs(changes).max() > 0


def test_in_coevolve_the_judge_is_the_human_proxy():
    env = ValueHistory(make("coevolve"), length=2)
    *_, (observation, *_) = play(env)
    proxies = env.unwrapped.trajectory.proxy_values
    np.testing.assert_allclose(observation["judge_history"], proxies[-2:], atol=1e-6)


def test_new_keys_come_last():
    env = ValueHistory(make("follow"))
    old = list(make("follow").observation_space)
    assert list(env.observation_space) == [*old, "judge_history", "judge_differences"]
    batched = gym.vector.utils.batch_space(env.observation_space, 2)
    assert list(batched) == list(env.observation_space)


def test_what_the_wrapper_returns_may_be_changed_by_its_owner():
    env, other = ValueHistory(make("follow")), ValueHistory(make("follow"))
    for step, expected in zip(play(env), play(other), strict=True):
        assert data_equivalence(step, expected, exact=True)
        for value in step[0].values():
            if isinstance(value, np.ndarray):
                value[...] = 0


@every_challenge
def test_survives_json(challenge):
    assert_survives_json(ValueHistory(gym.make(CHALLENGES[challenge])))
    assert_survives_json(ValueHistory(gym.make(CHALLENGES[challenge]), length=2, scale="logit"))


@every_challenge
def test_gymnasium_checker(challenge):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*different from the unwrapped version")
        check_env(ValueHistory(make(challenge)))


class _Silent(VectorWrapper):
    """A vector environment that does not say how it resets."""

    def __init__(self, env):
        super().__init__(env)
        self.metadata = {}


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda env, envs: ValueHistory(env, 1), "length=1 must be 2 or more"),
        (lambda env, envs: VectorValueHistory(envs, 1), "length=1 must be 2 or more"),
        (lambda env, envs: ValueHistory(FlattenObservation(env)), "needs a Dict.*'judge_values'"),
        (lambda env, envs: VectorValueHistory(_Silent(envs)), "autoreset_mode.*None"),
    ],
)
def test_arguments_are_checked(wrap, message):
    envs = side_by_side("follow", AutoresetMode.NEXT_STEP)
    with pytest.raises(InvalidArgumentError, match=message):
        wrap(make("follow"), envs)
    with pytest.raises(UnknownNameError, match="probability"):
        ValueHistory(make("follow"), scale="odds")


@every_scale
@every_mode
@every_challenge
def test_vectors_do_as_environments_side_by_side(challenge, mode, scale):
    """Episodes of different lengths, cut short, ended and reset at any time."""
    batched = VectorValueHistory(side_by_side(challenge, mode), 3, scale)
    single = side_by_side(challenge, mode, lambda env: ValueHistory(env, 3, scale))
    assert batched.observation_space == single.observation_space
    assert batched.single_observation_space == single.single_observation_space
    assert list(batched.observation_space) == list(single.observation_space)
    ends, finals = 0, 0
    for told, expected in in_step(batched, single):
        assert data_equivalence(told, expected, exact=True)
        assert told[0] in batched.observation_space
        for final in told[-1].get("final_obs", ()):
            finals += final is not None and final in batched.single_observation_space
        ends += int((told[2] | told[3]).sum()) if len(told) == 5 else 0
    assert ends >= 6
    assert finals == (ends if mode is AutoresetMode.SAME_STEP else 0)


@every_mode
@pytest.mark.parametrize("copy", [True, False])
def test_on_the_vector_environment_of_this_package(mode, copy):
    """Whose rows all end at once, and which hands out its own arrays if told not to copy."""
    arguments = {"num_envs": 3, "history": "simulated"}
    envs = gym.make_vec(CHALLENGES["coevolve"], autoreset_mode=mode, copy=copy, **arguments)
    batched = VectorValueHistory(envs, 3)
    single = gym.make_vec(
        CHALLENGES["coevolve"],
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        wrappers=[lambda env: ValueHistory(env, 3)],
        **arguments,
    )
    ends = 0
    for told, expected in in_step(batched, single, n_steps=20):
        pairs = [(told[0], expected[0])]
        pairs += zip(*(t[-1].get("final_obs", ()) for t in (told, expected)), strict=True)
        for ours, theirs in pairs:
            assert (ours is None) == (theirs is None)
            for key in ours or ():
                np.testing.assert_allclose(
                    ours[key].astype(float), theirs[key].astype(float), rtol=0, atol=1e-5
                )
        ends += int(told[2].sum()) if len(told) == 5 else 0
    assert ends >= 3


@every_mode
def test_an_episode_forgets_the_one_before(mode):
    """By hand: two episodes of two steps in one row, the other row a step longer."""
    envs = VectorValueHistory(side_by_side("follow", mode), 4)
    observations, _ = envs.reset(seed=0)
    firsts = observations["judge_values"].copy()
    seen = [[value] for value in firsts]
    begins = np.zeros(3, dtype=bool)
    rng = random_policy(0)
    for _ in range(9):
        observations, _, terminated, truncated, infos = envs.step(rng(envs))
        ended = terminated | truncated
        if mode is AutoresetMode.DISABLED and ended.any():
            observations, _ = envs.reset(options={"reset_mask": ended.copy()})
        elif mode is AutoresetMode.SAME_STEP and ended.any():
            for row in np.flatnonzero(ended):
                last = infos["final_obs"][row]
                episode = [*seen[row], last["judge_values"]]
                filled = [episode[0]] * (4 - len(episode)) + episode[-4:]
                assert (last["judge_history"] == filled).all()
        new = begins if mode is AutoresetMode.NEXT_STEP else ended
        for row, value in enumerate(observations["judge_values"]):
            seen[row] = [value] if new[row] else [*seen[row], value]
            filled = [seen[row][0]] * (4 - len(seen[row])) + seen[row][-4:]
            assert (observations["judge_history"][row] == filled).all()
        begins = ended
