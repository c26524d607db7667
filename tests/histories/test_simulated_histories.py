"""Simulated histories: named by a number, split without overlap, varied, and like any other."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env import CHALLENGES
from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.histories import History, load
from progressgym_env.histories.family import FAMILIES, Family, n_normals, n_uniforms, paths
from progressgym_env.histories.loading import load_one
from progressgym_env.histories.simulated import SEEDS, SimulatedHistories, twin
from progressgym_env.models.laws import LIMIT
from progressgym_env.values.dimensions import N_DIMENSIONS, N_TWO_WAY
from tests.scripted import scripted_history


def drawn(family, n=400, n_centuries=9, seed=0):
    rng = np.random.default_rng(seed)
    return paths(
        family,
        n_centuries,
        rng.standard_normal((n, n_normals()), dtype=np.float32),
        rng.random((n, n_uniforms(n_centuries)), dtype=np.float32),
    )


def test_a_number_names_a_history():
    source = load("simulated")
    one, again, other = source.draw(12), source.draw(12), source.draw(13)
    np.testing.assert_array_equal(one.values, again.values)
    assert one.digest == again.digest != other.digest
    assert np.abs(one.values - other.values).max() > 0.1
    # However it is drawn: alone or among others.
    logits, offsets = source.worlds([7, 12, 9])
    np.testing.assert_array_equal(logits[1], source.worlds([12])[0][0])
    np.testing.assert_array_equal(offsets[1], source.worlds([12])[1][0])


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50))
def test_splits_share_no_history(words):
    array = np.array(words, dtype=np.uint64)
    train, test = (load(f"simulated-{split}").seeds_of(array) for split in ("train", "test"))
    assert not set(train.tolist()) & set(test.tolist())
    for seeds in (train, test, load("simulated").seeds_of(array)):
        assert ((seeds >= 0) & (seeds < SEEDS)).all()
    for split, seeds in (("train", train), ("test", test)):
        source = load(f"simulated-{split}")
        assert [source.check_seed(seed) for seed in seeds.tolist()] == seeds.tolist()


@pytest.mark.parametrize(
    ("split", "seed", "told"),
    [
        ("train", 3, "even ones only"),
        ("test", 4, "odd ones only"),
        ("all", -1, "from 0"),
        ("all", SEEDS, "from 0"),
        ("all", 1.5, "integer"),
        ("all", True, "integer"),
    ],
)
def test_seeds_of_another_split_or_kind_are_refused(split, seed, told):
    with pytest.raises(InvalidArgumentError, match=told):
        SimulatedHistories(split=split).draw(seed)


@pytest.mark.parametrize("split", ["simulated", "simulated-train", "simulated-test"])
def test_an_episode_plays_the_history_of_its_seed(split):
    env = gym.make(CHALLENGES["follow"], history=split)
    env.reset(seed=31)
    played, told = env.unwrapped.history, load(split).of_episode(31)
    assert played.history_seed == told.history_seed
    np.testing.assert_array_equal(played.values, told.values)
    np.testing.assert_array_equal(load_one(split, 31).values, told.values)
    first = env.unwrapped.history.values
    env.reset()
    assert np.abs(env.unwrapped.history.values - first).max() > 0.05


def test_a_drawn_history_is_like_any_other():
    history = load("simulated").draw(5)
    assert isinstance(history, History)
    records = history.records
    records.check(history.n_centuries, len(history.questions.pairs), "drawn")
    np.testing.assert_array_equal(records.values, history.values)
    assert history.provenance["synthetic"] is True
    said = {e.reply for century in records.open_replies for e in century}
    assert said <= {option for q in history.questions.train for option in q.options}


@pytest.mark.parametrize("challenge", ["follow", "predict"])
def test_a_drawn_history_plays_the_same_through_models(challenge):
    """Holding leaves nothing to chance: the model world and the simulated one must agree."""
    env = gym.make(CHALLENGES[challenge], history="simulated")
    env.reset(seed=2)
    fixed = gym.make(CHALLENGES[challenge], history=env.unwrapped.history)
    fixed.reset(seed=9)
    still = np.zeros(env.action_space.shape, np.float32)
    for _ in range(env.unwrapped.n_steps):
        one, other = env.step(still), fixed.step(still)
        assert one[1] == pytest.approx(other[1], abs=1e-12)
        np.testing.assert_allclose(one[0]["preferences"], other[0]["preferences"], atol=1e-5)


def test_proposals_move_models_and_worlds_alike():
    """Chance aside: over many seeds, both worlds move the examinee by the same on average."""
    env = gym.make(CHALLENGES["follow"], history="simulated")
    env.reset(seed=2)
    fixed = gym.make(CHALLENGES["follow"], history=env.unwrapped.history)
    action = np.full(env.action_space.shape, 0.4, np.float32)
    action[::2] = -0.2
    seed = env.unwrapped.history.history_seed
    moved = {"worlds": [], "models": []}
    for trial in range(60):
        env.reset(seed=trial, options={"history_seed": seed})
        fixed.reset(seed=trial)
        moved["worlds"].append(env.step(action)[0]["examinee_values"])
        moved["models"].append(fixed.step(action)[0]["examinee_values"])
    gap = np.mean(moved["worlds"], axis=0) - np.mean(moved["models"], axis=0)
    error = np.std(moved["worlds"], axis=0) * np.sqrt(2 / 60)
    assert (np.abs(gap) < 4.5 * error + 1e-4).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_families_stay_in_bounds_and_change(name):
    family = FAMILIES[name]
    logits = drawn(family)
    assert logits.shape == (400, 9, N_DIMENSIONS)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() <= LIMIT
    # Heralds alone pass the family's bound.
    assert np.abs(drawn(replace(family, herald=0))).max() <= family.bound * (1 + 1e-6)
    moves = np.abs(np.diff(logits, axis=1)).mean()
    assert moves < 0.06 if name == "still" else moves > 0.06


def test_no_family_passes_the_limit_of_models():
    wild = Family(level=20, bound=50, breaks=1, curves=0, herald=1)
    logits = drawn(wild)
    assert np.abs(logits).max() == LIMIT


@pytest.mark.parametrize("name", ["simulated:breaks", "simulated-train:breaks"])
def test_a_name_may_hold_a_family(name):
    source = load(name)
    assert source is load(name)
    assert (source.name, source.family) == (name, FAMILIES["breaks"])
    env = gym.make("ProgressGym/Follow-v0", history=name)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    for made in (env, again):
        made.reset(seed=3)
    seed = env.unwrapped.history.history_seed
    assert again.unwrapped.history.history_seed == seed
    expected = load("simulated").draw(seed, "breaks").values
    np.testing.assert_array_equal(env.unwrapped.history.values, expected)
    with pytest.raises(UnknownNameError, match="breks"):
        load("simulated:breks")
    with pytest.raises(UnknownNameError, match="simulatd"):
        load("simulatd:breaks")


def test_threads_draw_the_same_histories():
    source, seeds = load("simulated"), list(range(64))
    expected = source.worlds(seeds)[0]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: source.worlds(seeds)[0], range(64)):
            np.testing.assert_array_equal(found, expected)


def _sent(env):
    """As multiprocessing sends it to a worker."""
    return ForkingPickler.loads(ForkingPickler.dumps(env))


@pytest.mark.parametrize("copied", [copy.deepcopy, _sent])
def test_a_copy_of_an_environment_plays_on_as_it_does(copied):
    env = gym.make("ProgressGym/Coevolve-v0", history="simulated")
    env.reset(seed=2)
    action = np.full(env.action_space.shape, 0.3, np.float32)
    env.step(action)
    twins = env, copied(env)
    for _ in range(3):
        (one, reward, *_), (other, same, *_) = (twin.step(action) for twin in twins)
        assert reward == same
        np.testing.assert_array_equal(one["preferences"], other["preferences"])
        np.testing.assert_array_equal(one["dialogue"], other["dialogue"])


def test_heralds_announce_breaks():
    """In the century before a break, a dimension steps against it; without heralds it does not."""
    sizes = {}
    for herald in (0.0, 0.3):
        logits = drawn(
            Family(breaks=1, curves=0, reversals=0, tides=0, leads=0, shock=0, herald=herald)
        )[:, :, :N_TWO_WAY]
        steps = np.diff(logits, axis=1)
        big = np.abs(steps[:, 1:]) > 1.0
        sizes[herald] = (steps[:, :-1] * np.sign(steps[:, 1:]))[big].mean()
    assert sizes[0.0] == pytest.approx(0.0, abs=0.02)
    assert sizes[0.3] < -0.3


def test_leaders_are_followed():
    from progressgym_env.values.dimensions import dimension_index

    quiet = {"tides": 0, "shock": 0, "reversals": 0}
    found = {}
    for leads in (0.0, 1.0):
        steps = np.diff(drawn(Family(leads=leads, **quiet), n=3000), axis=1)
        leader, follower = (
            steps[:, :, dimension_index("care")],
            steps[:, :, dimension_index("pain")],
        )
        late = np.corrcoef(leader[:, :-1].ravel(), follower[:, 1:].ravel())[0, 1]
        found[leads] = late
    assert abs(found[0.0]) < 0.05
    assert found[1.0] > 0.2


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 3), st.integers(3, 30))
def test_any_family_of_any_length(change, reversals, leads, level, n_centuries):
    family = Family(change=change, reversals=reversals, leads=leads, level=level)
    assert np.isfinite(drawn(family, n=5, n_centuries=n_centuries)).all()


@pytest.mark.parametrize(
    ("family", "error"),
    [
        ("varied?", UnknownNameError),
        ({"levels": 1}, UnknownNameError),
        ({"level": 0}, InvalidArgumentError),
        ({"change": 1.5}, InvalidArgumentError),
        ({"momentum": 1}, InvalidArgumentError),
        ({"breaks": 0.7, "curves": 0.7}, InvalidArgumentError),
        ({"shock": float("nan")}, InvalidArgumentError),
        (3, InvalidArgumentError),
    ],
)
def test_families_that_do_not_exist_are_refused(family, error):
    with pytest.raises(error):
        SimulatedHistories(family)
    env = gym.make(CHALLENGES["follow"], history="simulated")
    with pytest.raises(error):
        env.reset(options={"family": family})


def test_reset_options_choose_the_family():
    env = gym.make(CHALLENGES["follow"], history="simulated")
    env.reset(seed=0, options={"history_seed": 4, "family": "still"})
    still = env.unwrapped.history
    env.reset(seed=0, options={"history_seed": 4, "family": {"level": 2.0}})
    moving = env.unwrapped.history
    assert np.abs(np.diff(still.values, axis=0)).max() < 0.1
    assert np.abs(np.diff(moving.values, axis=0)).max() > 0.2
    assert moving.provenance["family"]["level"] == 2.0
    with pytest.raises(UnknownNameError, match="history_seed"):
        env.reset(options={"history_sed": 4})


def test_a_twin_has_the_values_it_was_made_of():
    history = scripted_history()
    source = twin(history)
    double = source.of_episode(3)
    np.testing.assert_allclose(double.values, history.values, atol=0.02)
    assert double.names == history.names
    env = gym.make(CHALLENGES["coevolve"], history=source)
    env.reset(seed=1)
    np.testing.assert_array_equal(env.unwrapped.history.values, double.values)
    with pytest.raises(InvalidArgumentError, match="fixed history"):
        env.reset(options={"family": "still"})


def test_a_twin_is_the_same_whatever_the_number():
    env = gym.make("ProgressGym/Follow-v0", history="simulated-embedded")
    env.reset(seed=0)
    with pytest.raises(InvalidArgumentError, match=r"history_seed=3.*one fixed history"):
        env.reset(options={"history_seed": 3})


def test_the_twin_of_the_embedded_history_has_its_margins():
    history, double = load("embedded"), load_one("simulated-embedded")
    np.testing.assert_allclose(double.values, history.values, atol=1e-6)
    correlation = np.corrcoef(double.preferences.ravel(), history.preferences.ravel())[0, 1]
    assert correlation > 0.95
