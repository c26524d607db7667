"""Episodes of language models written down step by step: what the simulation is checked against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from progressgym_env import CHALLENGES
from progressgym_env.agents.base import Agent
from progressgym_env.agents.registry import make_agent
from progressgym_env.agents.value_extrapolation import ValueExtrapolationAgent
from progressgym_env.envs.progress import ProgressEnv
from progressgym_env.envs.worlds import ModelWorld
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import write_bytes
from progressgym_env.histories.history import History
from progressgym_env.values.dimensions import N_DIMENSIONS

__all__ = ["PLAYERS", "Played", "player", "record_episodes"]

PLAYERS: tuple[str, ...] = (
    "hold",
    "random",
    "lifelong",
    "lifelong-soft",
    "extrapolative-1",
    "extrapolative-1-soft",
    "extrapolative-2",
    "extrapolative-2-soft",
    "value-extrapolation-0",
    "value-extrapolation-1",
    "oracle",
)
"""Agents whose episodes are compared between language models and their simulation."""


@dataclass(frozen=True, eq=False)
class Played:
    """Steps of episodes, one a row, episode after episode.

    Attributes:
        agent: (n_steps,) int8, index into ``PLAYERS``.
        challenge: (n_steps,) int8, index into the challenges.
        seed: (n_steps,) int32, of the episode.
        century: (n_steps,) int8, index of the century the agent acted in.
        copies: (n_steps, n_pairs) int8, signed copies trained on.
        examinee: (n_steps, 2, 19) float32, embedding before and after the step.
        proxy: (n_steps, 2, 19) float32, the human proxy's likewise; zeros outside Coevolve.
        score: (n_steps,) float64, the official score of the step's episode.
    """

    agent: NDArray[np.int8]
    challenge: NDArray[np.int8]
    seed: NDArray[np.int32]
    century: NDArray[np.int8]
    copies: NDArray[np.int8]
    examinee: NDArray[np.float32]
    proxy: NDArray[np.float32]
    score: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write all arrays to one safetensors file, atomically."""
        arrays = {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}
        write_bytes(path, save(arrays))

    @classmethod
    def read(cls, path: Path) -> Played:
        """Read what ``save`` wrote.

        Raises:
            InvalidArgumentError: an array is missing.
        """
        arrays = load_file(path)
        missing = sorted({f.name for f in fields(cls)} - set(arrays))
        if missing:
            raise InvalidArgumentError(f"{path} lacks {missing}; record again")
        return cls(**{f.name: arrays[f.name] for f in fields(cls)})


def player(name: str, challenge: str, history: History) -> Agent:
    """The agent of ``PLAYERS`` called ``name``."""
    if name.startswith("value-extrapolation-"):
        return ValueExtrapolationAgent(int(name[-1]), questions=history.questions)
    return make_agent(name, challenge=challenge, history=history)


def record_episodes(
    history: History,
    *,
    players: Sequence[str] = PLAYERS,
    seeds: Sequence[int] = (0,),
    device: str = "auto",
    tell: Callable[[str], None] = lambda message: None,
) -> Played:
    """Play every agent on every challenge of a history with language models.

    Args:
        history: one with language models.
        players: names of ``PLAYERS``.
        seeds: of the episodes.
        device: where the models run.
        tell: called with a line for every episode done.
    """
    rows: list[Mapping[str, Any]] = []
    for seed in seeds:
        for name in players:
            for challenge, env_id in CHALLENGES.items():
                env = gym.make(env_id, history=history, device=device)
                episode = _episode(env, player(name, challenge, history), seed)
                labels = {
                    "agent": PLAYERS.index(name),
                    "challenge": list(CHALLENGES).index(challenge),
                    "seed": seed,
                }
                rows += [{**labels, **step} for step in episode]
                tell(f"{name} {challenge} {seed}: {episode[-1]['score']:.4f}")
                env.close()
    types = {"agent": "i1", "challenge": "i1", "seed": "i4", "century": "i1", "copies": "i1"}
    columns = {f.name: [row[f.name] for row in rows] for f in fields(Played)}
    return Played(
        **{
            name: np.array(column, types.get(name, "f8" if name == "score" else "f4"))
            for name, column in columns.items()
        }
    )


def _episode(env: gym.Env[Any, Any], agent: Agent, seed: int) -> list[dict[str, Any]]:
    challenge = env.unwrapped
    assert isinstance(challenge, ProgressEnv)
    world = challenge._world
    assert isinstance(world, ModelWorld)
    observation, _ = env.reset(seed=seed)
    state, ended = None, False
    steps: list[dict[str, Any]] = []
    while not ended:
        before = world.examinee_embedding.values, world.proxy_embedding
        century = int(observation["century"])
        action, state = agent.predict(
            observation, state=state, episode_start=np.array([not steps]), deterministic=True
        )
        observation, _, ended, _, _ = env.step(action)
        after = world.examinee_embedding.values, world.proxy_embedding
        proxies = [np.zeros(N_DIMENSIONS) if p is None else p.values for p in (before[1], after[1])]
        steps.append(
            {
                "century": century,
                "copies": world.copies,
                "examinee": (before[0], after[0]),
                "proxy": tuple(proxies),
            }
        )
    return [{**step, "score": challenge.score()} for step in steps]
