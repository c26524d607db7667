"""Vector environments: the same episodes as single ones, in every autoreset mode."""

from __future__ import annotations

import inspect

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as check_gymnasium
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_sb3

import progressgym_env
from progressgym_env.envs import simulated_batch
from progressgym_env.errors import InvalidActionError, InvalidArgumentError, UnknownNameError
from progressgym_env.histories.simulated import SimulatedHistories

IDS = tuple(progressgym_env.CHALLENGES.values())
MODES = tuple(AutoresetMode)
N = 5


def vectors(env_id, mode, **arguments):
    """The batched environment, and single ones side by side."""
    arguments = {"history": "simulated", **arguments}
    batched = gym.make_vec(env_id, num_envs=N, autoreset_mode=mode.value, **arguments)
    side_by_side = gym.make_vec(
        env_id,
        num_envs=N,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        **arguments,
    )
    return batched, side_by_side


def assert_equal_observations(one, other):
    assert set(one) == set(other)
    for key in one:
        assert np.asarray(one[key]).dtype == np.asarray(other[key]).dtype
        assert np.shape(one[key]) == np.shape(other[key])
        np.testing.assert_allclose(
            np.asarray(one[key], float),
            np.asarray(other[key], float),
            rtol=0,
            atol=2e-6,
            err_msg=key,
        )


@pytest.mark.parametrize("update_from", ["current", "initial"])
@pytest.mark.parametrize("update", ["sft", "dpo", "rlhf"])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("env_id", IDS)
def test_a_batch_plays_the_episodes_of_single_environments(env_id, mode, update, update_from):
    arguments = {"update": update, "update_from": update_from, "dialogue_samples": 3}
    batched, single = vectors(env_id, mode, **arguments)
    rng = np.random.default_rng(1)
    observations = batched.reset(seed=11)[0], single.reset(seed=11)[0]
    assert_equal_observations(*observations)
    ends = 0
    for _ in range(2 * batched.unwrapped.n_steps + 3):
        actions = rng.uniform(-1, 1, batched.action_space.shape).astype(np.float32)
        actions[rng.random(actions.shape) < 0.5] = 0
        ours, theirs = batched.step(actions), single.step(actions)
        assert_equal_observations(ours[0], theirs[0])
        # Sums in float32 may differ in their last bits with the size of a batch.
        np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-6)
        for index in (2, 3):
            np.testing.assert_array_equal(ours[index], theirs[index])
        assert_equal_infos(ours[4], theirs[4])
        ended = ours[2]
        ends += ended.sum()
        if mode is AutoresetMode.DISABLED and ended.any():
            pair = [env.reset(options={"reset_mask": ended.copy()})[0] for env in (batched, single)]
            assert_equal_observations(*pair)
    assert ends >= N


def assert_equal_infos(ours, theirs):
    """Whatever the batch tells, single environments tell too."""
    for key, told in ours.items():
        if isinstance(told, dict):
            assert_equal_infos(told, theirs[key])
        elif key == "final_obs":
            for one, other in zip(told, theirs[key], strict=True):
                assert_equal_observations(one, other)
        elif key.startswith("_"):
            np.testing.assert_array_equal(told, theirs[key], err_msg=key)
        else:
            known = ours.get(f"_{key}", np.ones(N, dtype=bool))
            np.testing.assert_allclose(
                told[known].astype(float), theirs[key][known].astype(float), atol=2e-6, err_msg=key
            )


def test_rows_out_of_step_stay_apart():
    batched, single = vectors(IDS[2], AutoresetMode.DISABLED)
    batched.reset(seed=3), single.reset(seed=3)
    rng = np.random.default_rng(0)
    for turn in range(6):
        actions = rng.uniform(-0.4, 0.4, batched.action_space.shape).astype(np.float32)
        ours, theirs = batched.step(actions), single.step(actions)
        assert_equal_observations(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-6)
        mask = np.zeros(N, dtype=bool)
        mask[turn % N] = True
        seeds = [None] * N
        seeds[turn % N] = 100 + turn
        pair = [
            env.reset(seed=seeds, options={"reset_mask": mask.copy()})[0]
            for env in (batched, single)
        ]
        assert_equal_observations(*pair)
    assert len(set(ours[0]["century"].tolist())) > 2


@pytest.mark.parametrize("env_id", IDS)
def test_same_seed_same_episodes(env_id):
    runs = []
    for _ in range(2):
        envs = gym.make_vec(env_id, num_envs=N, history="simulated")
        observation, _ = envs.reset(seed=4)
        actions = np.sign(observation["preferences"]) * np.float32(0.3)
        runs.append([observation, *[envs.step(actions)[0] for _ in range(3)]])
    for one, other in zip(*runs, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("env_id", IDS)
def test_observations_are_in_the_space_and_rewards_add_up(env_id):
    envs = gym.make_vec(env_id, num_envs=N, history="simulated", autoreset_mode="Disabled")
    observation, _ = envs.reset(seed=0)
    rng, returns = np.random.default_rng(0), np.zeros(N)
    for _ in range(envs.unwrapped.n_steps):
        assert envs.observation_space.contains(observation)
        actions = rng.uniform(-1, 1, envs.action_space.shape).astype(np.float32)
        observation, rewards, terminated, truncated, infos = envs.step(actions)
        returns += rewards
        assert not truncated.any()
    assert terminated.all()
    np.testing.assert_allclose(infos["score"], returns, atol=1e-9)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("env_id", IDS)
def test_a_batch_is_the_same_however_it_is_cut(env_id, mode, monkeypatch):
    """Several blocks, the last one smaller: as in one, also where some rows alone are at work."""
    arguments = {"num_envs": 300, "history": "simulated", "autoreset_mode": mode.value}
    whole = gym.make_vec(env_id, **arguments)
    monkeypatch.setattr(simulated_batch, "_BLOCK", 128)
    cut = gym.make_vec(env_id, **arguments)
    rng = np.random.default_rng(0)

    def both(act):
        monkeypatch.setattr(simulated_batch, "_BLOCK", 1024)
        expected = act(whole)
        monkeypatch.setattr(simulated_batch, "_BLOCK", 128)
        found = act(cut)
        assert_equal_observations(found[0], expected[0])
        for one, other in zip(found[1:-1], expected[1:-1], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
        return found

    both(lambda env: env.reset(seed=1))
    for turn in range(11):
        actions = rng.uniform(-0.5, 0.5, cut.action_space.shape).astype(np.float32)
        ended = both(lambda env, actions=actions: env.step(actions))[2]
        if mode is AutoresetMode.DISABLED:
            # Rows of their own times: some blocks are whole, others are of scattered rows.
            mask = ended | ((np.arange(300) % 2 == 0) & (turn % 3 == 1))
            if mask.any():
                both(lambda env, mask=mask: env.reset(options={"reset_mask": mask.copy()}))


def test_observations_are_copies_unless_asked_otherwise():
    for copy in (True, False):
        envs = gym.make_vec(IDS[0], num_envs=2, history="simulated", copy=copy)
        first, _ = envs.reset(seed=0)
        kept = first["judge_values"].copy()
        envs.step(envs.action_space.sample() * 0)
        assert np.array_equal(first["judge_values"], kept) == copy


def test_histories_may_be_chosen_row_by_row():
    envs = gym.make_vec(IDS[0], num_envs=3, history="simulated-test").unwrapped
    envs.reset(seed=0, options={"history_seed": [11, 5, 11]})
    np.testing.assert_array_equal(envs.history_seeds, [11, 5, 11])
    np.testing.assert_array_equal(envs.values[0], envs.values[2])
    assert np.abs(envs.values[0] - envs.values[1]).max() > 0.05
    envs.reset(options={"history_seed": 7})
    np.testing.assert_array_equal(envs.history_seeds, 7)
    with pytest.raises(InvalidArgumentError, match="2 history seeds for 3"):
        envs.reset(options={"history_seed": [1, 3]})
    with pytest.raises(InvalidArgumentError, match="odd ones only"):
        envs.reset(options={"history_seed": [1, 2, 3]})


def test_the_mode_is_declared():
    for mode in MODES:
        envs = gym.make_vec(IDS[0], num_envs=1, history="simulated", autoreset_mode=mode.value)
        assert envs.metadata["autoreset_mode"] is mode
    assert type(envs.unwrapped).metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_a_bad_row_is_named():
    envs = gym.make_vec(IDS[0], num_envs=4, history="simulated")
    envs.reset(seed=0)
    actions = np.zeros(envs.action_space.shape, np.float32)
    for bad in (np.nan, 1.5, -np.inf):
        actions[2, 7] = bad
        with pytest.raises(InvalidActionError, match=r"actions\[2, 7\].*row 2"):
            envs.step(actions)
    with pytest.raises(InvalidActionError, match="shape"):
        envs.step(actions[:3])
    with pytest.raises(InvalidActionError, match="real numbers"):
        envs.step(actions.astype(str))
    # Nothing was done.
    actions[2, 7] = 0
    assert (envs.step(actions)[0]["century"] == 2).all()


BAD_RESETS = [
    ({"options": {"bogus": 1}}, UnknownNameError, "reset option 'bogus'"),
    ({"options": {"history_seed": [1, 2]}}, InvalidArgumentError, "2 history seeds for 3"),
    ({"options": {"history_seed": -1}}, InvalidArgumentError, "history_seed=-1"),
    ({"options": {"family": "warped"}}, UnknownNameError, "warped"),
    ({"seed": [1.5, 2, 3]}, InvalidArgumentError, r"seed\[0\]=1.5 is no seed; give an integer"),
    ({"seed": [1, 2, True]}, InvalidArgumentError, r"seed\[2\]=True is no seed"),
    ({"seed": [1, -2, 3]}, InvalidArgumentError, r"seed\[1\]=-2 is no seed"),
    ({"seed": ["1", "2", "3"]}, InvalidArgumentError, r"seed\[0\]='1' is no seed"),
    ({"seed": [[1], [2], [3]]}, InvalidArgumentError, r"seed\[0\]=\[1\] is no seed"),
    ({"seed": True}, InvalidArgumentError, "seed=True is no seed"),
    ({"seed": "abc"}, InvalidArgumentError, "seed='abc' is no seed.*a list of one a row"),
    ({"seed": -1}, InvalidArgumentError, "seed=-1 is no seed"),
    ({"seed": 1.0}, InvalidArgumentError, "seed=1.0 is no seed"),
    ({"seed": {1, 2, 3}}, InvalidArgumentError, "is no seed"),
    ({"seed": [1, 2]}, InvalidArgumentError, "2 seeds for 3 environments; give one a row"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_RESETS)
def test_a_refused_reset_changes_nothing(arguments, error, message):
    envs, untouched = (gym.make_vec(IDS[0], num_envs=3, history="simulated") for _ in range(2))
    still = np.zeros(envs.action_space.shape, np.float32)
    with pytest.raises(error, match=message):
        envs.reset(**arguments)
    with pytest.raises(ResetNeeded, match="no episodes yet"):
        envs.step(still)
    with pytest.raises(ResetNeeded, match="all rows"):
        envs.reset(options={"reset_mask": np.array([True, False, False])})
    envs.reset(seed=2), untouched.reset(seed=2)
    masked = {"reset_mask": np.array([True, False, False]), **arguments.get("options", {})}
    for refused in (arguments, {**arguments, "options": masked}):
        with pytest.raises(error, match=message):
            envs.reset(**refused)
        assert envs.np_random_seed == (2, 3, 4)
        assert_equal_observations(envs.step(still)[0], untouched.step(still)[0])
    assert_equal_observations(envs.reset()[0], untouched.reset()[0])


def test_a_reset_that_stops_midway_leaves_no_episodes(monkeypatch):
    envs = gym.make_vec(IDS[0], num_envs=2, history="simulated")
    still = np.zeros(envs.action_space.shape, np.float32)
    envs.reset(seed=0)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedHistories, "worlds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match="no episodes yet"):
        envs.step(still)
    with pytest.raises(ResetNeeded, match="all rows"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(seed=0)
    assert (envs.step(still)[0]["century"] == 2).all()


@pytest.mark.parametrize(
    "seed", [np.int64(5), (5, 6, 7), range(5, 8), np.arange(5, 8), np.array(5), [np.uint8(5), 6, 7]]
)
def test_what_is_a_seed(seed):
    envs = gym.make_vec(IDS[0], num_envs=3, history="simulated")
    expected, _ = envs.reset(seed=5)
    assert_equal_observations(envs.reset(seed=seed)[0], expected)


def test_seeds_and_generators_are_told_as_side_by_side():
    batched, single = vectors(IDS[1], AutoresetMode.DISABLED)
    # Before the first reset there are generators, and the reset goes on with them.
    early = batched.np_random
    assert all(isinstance(seed, int) for seed in batched.np_random_seed)
    batched.reset()
    assert all(one is other for one, other in zip(early, batched.np_random, strict=True))

    mask = np.arange(N) < 2
    for reset in (
        {"seed": 5},
        {},
        {"seed": [9, None, None, None, 4]},
        {"seed": [1, 2, 3, 4, 5], "options": {"reset_mask": mask}},
    ):
        for env in (batched, single):
            options = dict(reset.get("options", {}))
            env.reset(**{**reset, "options": options})
        assert batched.np_random_seed == single.np_random_seed
        assert type(batched.np_random_seed) is type(batched.np_random) is tuple
        states = [[rng.bit_generator.state for rng in e.np_random] for e in (batched, single)]
        assert states[0] == states[1]
    assert batched.np_random_seed == (1, 2, 7, 8, 4)


@pytest.mark.parametrize("env_id", IDS)
def test_unknown_arguments_are_told_all_that_are_known(env_id):
    """Those of the challenge, which the single environment has too, and those of a vector."""
    single = inspect.signature(type(gym.make(env_id, history="simulated").unwrapped)).parameters
    batched = gym.make_vec(env_id, num_envs=1, history="simulated").unwrapped
    parameters = inspect.signature(type(batched)).parameters
    shared = set(single) - {"unknown"}
    assert set(parameters) - {"unknown"} == {*shared, "num_envs", "autoreset_mode", "copy"}
    for name in shared:
        assert parameters[name].default == single[name].default
    with pytest.raises(UnknownNameError, match="known") as error:
        gym.make_vec(env_id, num_envs=1, history="simulated", histori=1)
    known = str(error.value).split("known: ")[1].split(";")[0].split(", ")
    assert known == sorted(set(parameters) - {"unknown"})


@pytest.mark.parametrize("copy", [0, 1, None, "False"])
def test_copy_is_yes_or_no(copy):
    with pytest.raises(InvalidArgumentError, match=r"copy=.* must be True or False"):
        gym.make_vec(IDS[0], num_envs=1, history="simulated", copy=copy)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu:1", 0, None])
@pytest.mark.parametrize("env_id", IDS)
def test_devices_are_checked_as_in_single_environments(env_id, device):
    said = []
    for make in (gym.make, gym.make_vec):
        with pytest.raises(InvalidArgumentError, match="unknown device") as error:
            make(env_id, history="simulated", device=device)
        said.append(str(error.value))
    assert said[0] == said[1]
    for good in ("auto", "cpu", "cuda", "cuda:1"):
        gym.make_vec(env_id, history="simulated", device=good)


@pytest.mark.parametrize("num_envs", [0, -1, 2.0, True])
def test_too_few_environments(num_envs):
    with pytest.raises(InvalidArgumentError, match="num_envs"):
        gym.make_vec(IDS[0], num_envs=num_envs, history="simulated")


def test_what_cannot_be_batched_says_what_to_do():
    with pytest.raises(InvalidArgumentError, match=r"cannot be batched.*vectorization_mode='sync'"):
        gym.make_vec(IDS[0], num_envs=2)
    with pytest.raises(InvalidArgumentError, match="render"):
        gym.make_vec(IDS[0], num_envs=2, history="simulated", render_mode="ansi")
    with pytest.raises(UnknownNameError, match="autoreset_mode"):
        gym.make_vec(IDS[0], num_envs=2, history="simulated", autoreset_mode="sometimes")
    with pytest.raises(UnknownNameError, match="num_envs"):
        gym.make_vec(IDS[0], num_envs=2, history="simulated", num_env=3)
    with pytest.raises(InvalidArgumentError, match="language models"):
        gym.make_vec(IDS[0], num_envs=2, history="simulated", update=object())


def test_stepping_needs_episodes():
    envs = gym.make_vec(IDS[0], num_envs=2, history="simulated", autoreset_mode="Disabled")
    still = np.zeros(envs.action_space.shape, np.float32)
    with pytest.raises(ResetNeeded, match="reset"):
        envs.step(still)
    with pytest.raises(ResetNeeded, match="all rows"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(seed=0)
    for _ in range(envs.unwrapped.n_steps):
        envs.step(still)
    with pytest.raises(ResetNeeded, match=r"rows \[0, 1\]"):
        envs.step(still)
    for mask in (np.zeros(2, bool), np.ones(3, bool), [True, False]):
        with pytest.raises(InvalidArgumentError, match="reset_mask"):
            envs.reset(options={"reset_mask": mask})
    with pytest.raises(InvalidArgumentError, match="3 seeds for 2"):
        envs.reset(seed=[1, 2, 3])


@pytest.mark.parametrize("env_id", IDS)
def test_single_environments_pass_both_checkers(env_id):
    env = gym.make(env_id, history="simulated")
    check_gymnasium(env.unwrapped, skip_render_check=True)
    check_sb3(env.unwrapped)
