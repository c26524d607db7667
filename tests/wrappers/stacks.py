"""What the tests of wrappers share: stacks rebuilt from their JSON, and vectors out of step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from progressgym_env import CHALLENGES
from tests.envs.episodes import make

every_challenge = pytest.mark.parametrize("challenge", CHALLENGES)
every_mode = pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)

LIMITS = (2, 3, 4)
"""Episode lengths of a vector's environments, so that they end (cut short or not) at times of
their own."""


def rebuilt(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """The stack that Gymnasium makes of the spec's JSON."""
    return gym.make(EnvSpec.from_json(env.spec.to_json()))


def classes(env: gym.Env[Any, Any]) -> list[type]:
    """The classes of a stack, outermost first."""
    found = [type(env)]
    while isinstance(env, gym.Wrapper):
        env = env.env
        found.append(type(env))
    return found


def assert_same_stack(one: gym.Env[Any, Any], other: gym.Env[Any, Any]) -> None:
    """Check that specs, classes and both spaces, the order of entries included, are the same."""
    assert one.spec == other.spec
    assert classes(one) == classes(other)
    assert one.observation_space == other.observation_space
    assert list(one.observation_space) == list(other.observation_space)
    assert one.action_space == other.action_space


def assert_survives_json(env: gym.Env[Any, Any]) -> None:
    """Check that the stack made of the spec's JSON is the same and shows the same."""
    other = rebuilt(env)
    assert_same_stack(other, env)
    assert data_equivalence(other.reset(seed=3), env.reset(seed=3), exact=True)


def side_by_side(
    challenge: str, mode: AutoresetMode, *wrappers: Callable[[Any], gym.Env[Any, Any]]
) -> SyncVectorEnv:
    """Environments on the scripted history, each wrapped, of different episode lengths."""

    def one(limit: int) -> gym.Env[Any, Any]:
        env = make(challenge, max_episode_steps=limit)
        for wrapper in wrappers:
            env = wrapper(env)
        return env

    functions = [lambda limit=limit: one(limit) for limit in LIMITS]
    return SyncVectorEnv(functions, autoreset_mode=mode)


Told = tuple[Any, ...]


def in_step(one: VectorEnv, other: VectorEnv, n_steps: int = 12) -> Iterator[tuple[Told, Told]]:
    """What two vector environments return, reset and stepped alike.

    Some rows are reset in between, besides those that have to be where autoreset is disabled.
    """
    envs, rng = (one, other), np.random.default_rng(0)
    disabled = one.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    yield tuple(env.reset(seed=5) for env in envs)
    for step in range(n_steps):
        actions = rng.uniform(-0.3, 0.3, one.action_space.shape).astype(np.float32)
        told = tuple(env.step(actions) for env in envs)
        yield told
        mask = told[0][2] | told[0][3] if disabled else np.zeros(one.num_envs, dtype=bool)
        mask[step % one.num_envs] |= step % 5 == 3
        if mask.any():
            options = [{"reset_mask": mask.copy()} for _ in envs]
            yield tuple(env.reset(options=o) for env, o in zip(envs, options, strict=True))
