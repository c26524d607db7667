"""Playing one agent on many simulated histories at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np

from progressgym_env import CHALLENGES
from progressgym_env.agents.base import Agent
from progressgym_env.agents.references import OracleAgent
from progressgym_env.envs.vector import ProgressVectorEnv
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.values.embedding import FloatArray

__all__ = ["AgentMaker", "oracle_of", "play_batch"]

AgentMaker = Callable[[ProgressVectorEnv], Agent]
"""Makes an agent for a batch that has been reset: oracles look at its histories."""


def oracle_of(challenge: str, steps_ahead: int = 1, **settings: float) -> AgentMaker:
    """Makes the oracle that knows every row's history."""
    return lambda envs: OracleAgent.of_values(
        envs.values, envs.questions, challenge, steps_ahead, **settings
    )


def play_batch(
    challenge: str,
    agent: Agent | AgentMaker,
    *,
    n_episodes: int = 1000,
    history: str | SimulatedHistories = "simulated-test",
    seed: int = 0,
    history_seeds: Sequence[int] | None = None,
    **arguments: Any,
) -> FloatArray:
    """The official scores of ``agent`` in ``n_episodes`` episodes, a history each.

    Args:
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        agent: plays deterministically where it has the choice; or what makes it.
        n_episodes: how many.
        history: where histories come from.
        seed: of the first episode; episode i has ``seed + i``, so equal seeds compare agents on
            equal histories.
        history_seeds: the histories themselves, one an episode; None draws them from the seeds.
        **arguments: of the environment.

    Returns:
        (n_episodes,) float64.
    """
    made = gym.make_vec(
        CHALLENGES[challenge],
        num_envs=n_episodes,
        history=history,
        autoreset_mode="Disabled",
        dialogue_samples=1,
        **arguments,
    )
    envs = cast(ProgressVectorEnv, made.unwrapped)
    options = None if history_seeds is None else {"history_seed": list(history_seeds)}
    observation, _ = envs.reset(seed=seed, options=options)
    player = agent if isinstance(agent, Agent) else agent(envs)
    starts, state = np.ones(n_episodes, dtype=bool), None
    for _ in range(envs.n_steps):
        actions, state = player.predict(
            observation, state=state, episode_start=starts, deterministic=True
        )
        observation, _, _, _, infos = envs.step(actions)
        starts = np.zeros(n_episodes, dtype=bool)
    return np.asarray(infos["score"], dtype=np.float64)
