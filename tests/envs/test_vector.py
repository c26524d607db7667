"""Vector environments: the same episodes as single ones, in every autoreset mode."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import progressgym_env

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


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("env_id", IDS)
def test_a_batch_plays_the_episodes_of_single_environments(env_id, mode):
    batched, single = vectors(env_id, mode, update="sft", dialogue_samples=3)
    rng = np.random.default_rng(1)
    observations = batched.reset(seed=11)[0], single.reset(seed=11)[0]
    assert_equal_observations(*observations)
    ends = 0
    for _ in range(2 * batched.unwrapped.n_steps + 3):
        actions = rng.uniform(-1, 1, batched.action_space.shape).astype(np.float32)
        actions[rng.random(actions.shape) < 0.5] = 0
        ours, theirs = batched.step(actions), single.step(actions)
        assert_equal_observations(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-9)
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
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-9)
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
