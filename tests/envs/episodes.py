"""Episodes for tests: making environments on scripted histories and playing them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from progressgym_env import CHALLENGES
from tests.scripted import scripted_history

Step = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


def make(challenge: str, **arguments: Any) -> gym.Env[Any, Any]:
    """A registered environment, on a scripted history unless told otherwise."""
    arguments.setdefault("history", scripted_history())
    return gym.make(CHALLENGES[challenge], **arguments)


def random_policy(seed: int) -> Callable[[gym.Env[Any, Any]], np.ndarray]:
    """Uniform actions from a generator of their own."""
    rng = np.random.default_rng(seed)

    def act(env: gym.Env[Any, Any]) -> np.ndarray:
        return rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)

    return act


def zero_policy(env: gym.Env[Any, Any]) -> np.ndarray:
    """Nothing."""
    return np.zeros(env.action_space.shape, dtype=np.float32)


def play(
    env: gym.Env[Any, Any],
    seed: int | None = 0,
    policy: Callable[[gym.Env[Any, Any]], np.ndarray] | None = None,
) -> Iterator[Step]:
    """Play one episode: first the reset (reward 0), then every step."""
    act = policy or random_policy(0)
    observation, info = env.reset(seed=seed)
    yield observation, 0.0, False, False, info
    ended = False
    while not ended:
        observation, reward, terminated, truncated, info = env.step(act(env))
        ended = terminated or truncated
        yield observation, float(reward), terminated, truncated, info


def digest(steps: Iterator[Step]) -> str:
    """SHA-256 of everything an episode returned, bit for bit."""
    result = hashlib.sha256()
    for observation, reward, terminated, truncated, info in steps:
        for part in (observation, reward, terminated, truncated, info):
            _feed(result, part)
    return result.hexdigest()


def _feed(result: Any, part: Any) -> None:
    if isinstance(part, dict):
        for key in sorted(part):
            result.update(key.encode())
            _feed(result, part[key])
    elif isinstance(part, np.ndarray):
        result.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    else:
        result.update(repr(part).encode())
