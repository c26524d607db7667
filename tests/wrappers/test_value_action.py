"""Pushes of dimensions: spread over the pairs, checked, alone and in batches."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RescaleAction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from progressgym_env import CHALLENGES
from progressgym_env.errors import InvalidActionError, InvalidArgumentError
from progressgym_env.values.dimensions import DIMENSION_KEYS, N_TWO_WAY, dimension_index
from progressgym_env.values.logits import pair_directions
from progressgym_env.values.questions import Question, QuestionSet, load_questions
from progressgym_env.wrappers.value_action import ValueAction, VectorValueAction, spread
from tests.envs.episodes import digest, make, play
from tests.scripted import scripted_questions
from tests.wrappers.stacks import assert_survives_json, every_challenge, every_mode, side_by_side

# A question of three dimensions, one of which its other option upholds, beside simple ones.
_UPHOLDS = {"kill": 0, "pain": 1, "law": 0}
_MIXED = Question("mixed", "train", "A mixed matter.", ("I do.", "I don't."), _UPHOLDS)
PAIRS = QuestionSet("mixed", [_MIXED, *scripted_questions().questions]).pairs

finite = st.floats(-1, 1, width=32)
pushes = array_shapes(max_dims=2, max_side=3).flatmap(
    lambda shape: arrays(np.float32, (*shape, 19), elements=finite)
)


def by_hand(push, pair):
    """What a pair gets, from what its options uphold."""
    upheld = [(dimension_index(key), option) for key, option in pair.question.upholds.items()]
    first = [float(push[d]) for d, option in upheld if option == pair.first]
    second = [float(push[d]) for d, option in upheld if option == pair.second]
    total = sum(first) - sum(second)
    if not pair.question.is_view:
        total /= len(first) + len(second)
    return max(-1.0, min(1.0, total))


@given(pushes)
@settings(deadline=None)
def test_spread_by_hand(push):
    action = spread(push, pair_directions(PAIRS))
    assert action.dtype == np.float32
    assert action.shape == (*push.shape[:-1], len(PAIRS))
    assert np.abs(action).max() <= 1
    expected = [[by_hand(row, pair) for pair in PAIRS] for row in push.reshape(-1, 19)]
    np.testing.assert_allclose(action.reshape(-1, len(PAIRS)), expected, atol=1e-6)


@given(arrays(np.float32, (7, 19), elements=finite))
@settings(deadline=None)
def test_a_batch_is_its_rows(push):
    directions = pair_directions(load_questions().pairs)
    alone = np.stack([spread(row, directions) for row in push])
    assert (spread(push, directions) == alone).all()


def test_spread_into_an_array():
    push = np.random.default_rng(0).uniform(-1, 1, (3, 19))
    directions = pair_directions(PAIRS)
    out = np.full((3, len(PAIRS)), np.nan, dtype=np.float32)
    assert spread(push, directions, out) is out
    assert (out == spread(push, directions)).all()
    for wrong in (out[:2], out.astype(np.float64)):
        with pytest.raises(InvalidArgumentError, match=r"must be float32 of shape \(3, 20\)"):
            spread(push, directions, wrong)
    with pytest.raises(InvalidArgumentError, match=r"\(3, 18\)"):
        spread(push[:, 1:], directions)
    with pytest.raises(InvalidArgumentError, match=r"\(n_pairs, 19\)"):
        spread(push, directions.T)


@every_challenge
def test_is_the_action_that_it_spreads_to(challenge):
    rng = np.random.default_rng(4)
    given_pushes = list(rng.uniform(-1, 1, (4, 19)).astype(np.float32))
    directions = pair_directions(scripted_questions().pairs)
    pushed, spelt = iter(given_pushes), iter(given_pushes)
    wrapped = digest(play(ValueAction(make(challenge)), policy=lambda _: next(pushed)))
    plain = digest(play(make(challenge), policy=lambda _: spread(next(spelt), directions)))
    assert wrapped == plain


@pytest.mark.parametrize("key", ["kill", "care", "modern"])
@pytest.mark.parametrize("sign", [1, -1])
def test_pushing_a_dimension_moves_it(key, sign):
    """Positive is to uphold more; what is not pushed moves by the noise of training at most."""
    env, d = ValueAction(make("follow")), dimension_index(key)
    before = env.reset(seed=0)[0]["examinee_values"]
    push = np.zeros(19, dtype=np.float32)
    push[d] = sign
    moved = env.step(push)[0]["examinee_values"] - before
    assert sign * moved[d] > 0.03
    others = [i for i in range(N_TWO_WAY) if i != d]
    assert np.abs(moved[others]).max() < 0.02


@every_challenge
def test_survives_json(challenge):
    assert_survives_json(ValueAction(gym.make(CHALLENGES[challenge])))


@every_challenge
def test_gymnasium_checker(challenge):
    env = ValueAction(make(challenge))
    assert env.action_space == gym.spaces.Box(-1, 1, (19,), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*different from the unwrapped version")
        check_env(env)


BAD = [
    (np.nan, "is nan"),
    (1.5, "is 1.5"),
    (-np.inf, "is -inf"),
]


@pytest.mark.parametrize(("value", "message"), BAD)
def test_a_bad_push_is_named_by_its_dimension(value, message):
    env = ValueAction(make("follow"))
    env.reset(seed=0)
    push = np.zeros(19)
    push[3] = value
    with pytest.raises(InvalidActionError, match=rf"dimension 'freedom' {message}.*1 of 19"):
        env.step(push)
    assert env.unwrapped.trajectory.rewards.size == 0
    env.step(np.zeros(19))


@pytest.mark.parametrize(
    ("push", "message"),
    [
        (np.zeros(18), r"shape \(18,\).*\(19,\)"),
        (np.zeros((1, 19)), r"shape \(1, 19\)"),
        (["0"] * 19, "dtype <U1"),
        (np.zeros(19, dtype=bool), "dtype bool"),
        ([0.0] * 18 + [[0.0]], "no array of numbers"),
        (None, "dtype object"),
    ],
)
def test_what_is_no_push(push, message):
    env = ValueAction(make("follow"))
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match=message):
        env.step(push)


def test_lists_integers_and_doubles_are_pushes():
    env = ValueAction(make("follow"))
    told = []
    for push in ([1] * 19, np.ones(19), np.ones(19, dtype=np.float32)):
        env.reset(seed=0)
        told.append(env.step(push)[0]["examinee_values"].tolist())
    assert told[0] == told[1] == told[2]


def test_needs_an_environment_whose_actions_are_pairs():
    with pytest.raises(InvalidArgumentError, match="before anything else changes its actions"):
        ValueAction(ValueAction(gym.make(CHALLENGES["follow"])))
    with pytest.raises(InvalidArgumentError, match="before anything else changes its actions"):
        ValueAction(RescaleAction(make("follow"), np.float32(0), np.float32(1)))
    with pytest.raises(InvalidArgumentError, match="shows no training questions"):
        ValueAction(gym.make("CartPole-v1"))
    envs = gym.make_vec(CHALLENGES["follow"], num_envs=2, history="simulated")
    with pytest.raises(InvalidArgumentError, match="before anything else changes its actions"):
        VectorValueAction(VectorValueAction(envs))


@every_mode
@every_challenge
def test_vectors_do_as_environments_side_by_side(challenge, mode):
    batched = VectorValueAction(side_by_side(challenge, mode))
    single = side_by_side(challenge, mode, ValueAction)
    assert batched.action_space == single.action_space
    assert batched.single_action_space == single.single_action_space
    batched.reset(seed=2), single.reset(seed=2)
    rng = np.random.default_rng(0)
    for _ in range(2 if mode is AutoresetMode.DISABLED else 8):
        push = rng.uniform(-1, 1, (3, 19)).astype(np.float32)
        assert data_equivalence(batched.step(push), single.step(push), exact=True)


@every_challenge
def test_on_the_vector_environment_of_this_package(challenge):
    plain, wrapped = (
        gym.make_vec(CHALLENGES[challenge], num_envs=4, history="simulated") for _ in range(2)
    )
    wrapped = VectorValueAction(wrapped)
    plain.reset(seed=1), wrapped.reset(seed=1)
    push = wrapped.action_space.sample()
    directions = pair_directions(plain.unwrapped.questions.pairs)
    told = plain.step(spread(push, directions)), wrapped.step(push)
    assert data_equivalence(*told, exact=True)


def test_a_bad_row_of_a_batch_is_named():
    envs = VectorValueAction(side_by_side("follow", AutoresetMode.NEXT_STEP))
    envs.reset(seed=0)
    push = np.zeros((3, 19), dtype=np.float32)
    push[1, -1], push[2, 0] = np.nan, 7
    with pytest.raises(
        InvalidActionError, match=r"environment 1, dimension 'integrative' is nan.*2 of 57"
    ):
        envs.step(push)
    with pytest.raises(InvalidActionError, match=r"shape \(19,\).*\(3, 19\)"):
        envs.step(push[0])
    envs.step(np.zeros_like(push))


def test_what_was_handed_on_is_not_written_again():
    """An environment, or a wrapper that records, may keep the actions it is given."""
    envs = VectorValueAction(side_by_side("follow", AutoresetMode.NEXT_STEP))
    first = envs.actions(np.ones((3, 19)))
    kept = first.copy()
    envs.actions(np.zeros((3, 19)))
    assert (first == kept).all()


def test_environments_in_other_processes_are_wrapped_one_by_one():
    arguments = {"num_envs": 1, "vectorization_mode": "async"}
    envs = gym.make_vec(CHALLENGES["follow"], **arguments)
    with pytest.raises(InvalidArgumentError, match=r"wrappers=\[ValueAction\]"):
        VectorValueAction(envs)
    envs.close()
    envs = gym.make_vec(CHALLENGES["follow"], wrappers=[ValueAction], **arguments)
    assert envs.action_space.shape == (1, len(DIMENSION_KEYS))
    envs.reset(seed=0)
    assert envs.step(np.zeros((1, 19), dtype=np.float32))[1].shape == (1,)
    envs.close()
