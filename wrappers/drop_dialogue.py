"""Observations of numbers only, for reinforcement learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from progressgym_env.envs.progress import Action, Observation
from progressgym_env.wrappers._spaces import dict_space, require_entry
from progressgym_env.wrappers._vector import map_final_obs

__all__ = ["DropDialogue", "VectorDropDialogue"]


class DropDialogue(gym.ObservationWrapper[Observation, Action, Observation], RecordConstructorArgs):
    """Takes ``dialogue`` out of the observation; ``info["dialogue"]`` stays.

    Gymnasium's ``FilterObservation`` does the same if told every key to keep. This one names what
    goes, so entries that other wrappers add stay; and its vector form, :class:`VectorDropDialogue`,
    works in every autoreset mode and without a loop over the environments.

    Args:
        env: an environment whose observation is a ``Dict`` with ``dialogue``.

    Raises:
        InvalidArgumentError: the observation has no ``dialogue``.
    """

    def __init__(self, env: gym.Env[Observation, Action]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        entries = require_entry(env.observation_space, "dialogue", type(self).__name__)
        self.observation_space = dict_space(_without_dialogue(entries))

    def observation(self, observation: Observation) -> Observation:
        """``observation`` without ``dialogue``."""
        return _without_dialogue(observation)


class VectorDropDialogue(VectorWrapper):
    """:class:`DropDialogue` for vector environments, ``infos["final_obs"]`` included.

    Args:
        env: a vector environment whose observation is a ``Dict`` with ``dialogue``.

    Raises:
        InvalidArgumentError: the observation has no ``dialogue``.
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        name = type(self).__name__
        single = require_entry(env.single_observation_space, "dialogue", name)
        batched = require_entry(env.observation_space, "dialogue", name)
        self.single_observation_space = dict_space(_without_dialogue(single))
        self.observation_space = dict_space(_without_dialogue(batched))

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset, and drop ``dialogue``."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return _without_dialogue(observations), infos

    def step(self, actions: Action) -> tuple[Observation, Any, Any, Any, dict[str, Any]]:
        """Step, and drop ``dialogue``, also from the last observations of ended episodes."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        if "final_obs" in infos:
            final = map_final_obs(infos["final_obs"], lambda last, _: _without_dialogue(last))
            infos = {**infos, "final_obs": final}
        return _without_dialogue(observations), rewards, terminations, truncations, infos


def _without_dialogue(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry for key, entry in entries.items() if key != "dialogue"}
