"""Playing one episode, and writing down all that happened in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env.agents import Agent
from progressgym_env.envs.progress import Action, Observation, ProgressEnv
from progressgym_env.envs.trajectory import Trajectory
from progressgym_env.errors import InvalidArgumentError

__all__ = ["EpisodeRecord", "StepRecord", "play_episode"]


@dataclass(frozen=True)
class StepRecord:
    """One step of an episode.

    Attributes:
        century: name of the century in which the agent acted.
        action: SHA-256 of the action's float32 bytes.
        n_examples: examples that the examinee was trained on.
        judge_values: (19,), the judge that the agent saw; in Coevolve the human proxy.
        examinee_values: (19,), after the step.
        proxy_values: (19,), the human proxy after the step; None outside Coevolve.
        reward: what the step paid.
        dialogue: what the agent saw people say before it acted: (prompt, reply), one a sample.
    """

    century: str
    action: str
    n_examples: int
    judge_values: tuple[float, ...]
    examinee_values: tuple[float, ...]
    proxy_values: tuple[float, ...] | None
    reward: float
    dialogue: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode, with nothing in it that depends on the clock or the machine's load.

    Attributes:
        agent: the agent's name.
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        seed: of the episode.
        score: the official score.
        episode_return: the sum of the rewards, equal to the score but for rounding; ``"return"``
            in files.
        initial_values: (19,), the examinee at the start, and the proxy where there is one.
        steps: one record a step.
    """

    agent: str
    challenge: str
    seed: int
    score: float
    episode_return: float
    initial_values: tuple[float, ...]
    steps: tuple[StepRecord, ...]

    @property
    def examinee_values(self) -> NDArray[np.float64]:
        """(n_steps + 1, 19), the examinee at the start and after each step."""
        return np.array([self.initial_values, *(s.examinee_values for s in self.steps)])

    @property
    def proxy_values(self) -> NDArray[np.float64] | None:
        """(n_steps + 1, 19), the human proxy likewise; None outside Coevolve."""
        rows = [s.proxy_values for s in self.steps if s.proxy_values is not None]
        return np.array([self.initial_values, *rows]) if rows else None

    def to_json(self) -> str:
        """The episode as one line; equal episodes give equal bytes."""
        steps = [asdict(step) for step in self.steps]
        for step in steps:
            if step["proxy_values"] is None:
                del step["proxy_values"]
        raw = {
            "agent": self.agent,
            "challenge": self.challenge,
            "seed": self.seed,
            "score": self.score,
            "return": self.episode_return,
            "initial_values": self.initial_values,
            "steps": steps,
        }
        return json.dumps(raw, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> EpisodeRecord:
        """The episode of a line that ``to_json`` wrote.

        Raises:
            json.JSONDecodeError: the line is no JSON.
            KeyError: a field is missing.
            TypeError: a field is of another kind, or unknown.
        """
        raw = json.loads(line)
        raw["episode_return"] = raw.pop("return")
        raw["initial_values"] = tuple(raw["initial_values"])
        raw["steps"] = tuple(_step_from(step) for step in raw["steps"])
        return cls(**raw)


def play_episode(
    env: gym.Env[Observation, Action],
    agent: Agent,
    seed: int,
    *,
    agent_name: str,
    on_step: Callable[[int, int, str], None] = lambda step, n_steps, century: None,
    on_phase: Callable[[str], None] | None = None,
) -> EpisodeRecord:
    """Play one episode and record it.

    Args:
        env: a challenge, wrapped or not.
        agent: plays it, deterministically where it has the choice.
        seed: of the episode; the same seed gives the same record, byte for byte, if the agent
            starts alike too: one that keeps a random state of its own, which goes on from episode
            to episode (``random`` does), must be made anew.
        agent_name: goes into the record.
        on_step: called before each step, with the number of steps done, that of all, and the name
            of the century the agent acts in.
        on_phase: called when a part of a step begins, in place of the environment's own
            ``on_phase``, which is put back at the end; None leaves that one in use.

    Raises:
        InvalidArgumentError: ``env`` is none of this package's.
    """
    challenge = env.unwrapped
    if not isinstance(challenge, ProgressEnv):
        raise InvalidArgumentError(
            f"{env} is no ProgressGym environment; make one with gymnasium.make, for instance "
            "'ProgressGym/Follow-v0'"
        )
    before = challenge.on_phase
    challenge.on_phase = on_phase or before
    try:
        seen = _walk(env, challenge, agent, seed, on_step)
    finally:
        challenge.on_phase = before
    return EpisodeRecord(
        agent=agent_name,
        challenge=challenge.challenge.lower(),
        seed=seed,
        score=challenge.score(),
        episode_return=float(sum(challenge.trajectory.rewards)),
        initial_values=_floats(challenge.trajectory.examinee_values[0]),
        steps=tuple(_step(challenge.trajectory, index, step) for index, step in enumerate(seen)),
    )


@dataclass(frozen=True)
class _Seen:
    """What a step's agent saw and did."""

    century: str
    action: str
    n_examples: int
    dialogue: tuple[tuple[str, str], ...]


def _walk(
    env: gym.Env[Observation, Action],
    challenge: ProgressEnv,
    agent: Agent,
    seed: int,
    on_step: Callable[[int, int, str], None],
) -> list[_Seen]:
    """Play to the end."""
    observation, info = env.reset(seed=seed)
    seen: list[_Seen] = []
    state, ended = None, False
    while not ended:
        century = info["century_name"]
        on_step(len(seen), challenge.n_steps, century)
        action, state = agent.predict(
            observation, state=state, episode_start=np.array([not seen]), deterministic=True
        )
        said = tuple(zip(info["dialogue_prompts"], info["dialogue"], strict=True))
        observation, _, terminated, truncated, info = env.step(action)
        seen.append(_Seen(century, _digest(action), int(info["n_examples"]), said))
        ended = terminated or truncated
    return seen


def _step(trajectory: Trajectory, index: int, seen: _Seen) -> StepRecord:
    proxy = trajectory.proxy_values
    judge = trajectory.judge_values[index + 1] if proxy is None else proxy[index]
    return StepRecord(
        century=seen.century,
        action=seen.action,
        n_examples=seen.n_examples,
        judge_values=_floats(judge),
        examinee_values=_floats(trajectory.examinee_values[index + 1]),
        proxy_values=None if proxy is None else _floats(proxy[index + 1]),
        reward=float(trajectory.rewards[index]),
        dialogue=seen.dialogue,
    )


def _step_from(raw: dict[str, Any]) -> StepRecord:
    for key in ("judge_values", "examinee_values", "proxy_values"):
        if key in raw:
            raw[key] = tuple(raw[key])
    raw["dialogue"] = tuple((prompt, reply) for prompt, reply in raw["dialogue"])
    return StepRecord(**{"proxy_values": None, **raw})


def _floats(values: ArrayLike) -> tuple[float, ...]:
    return tuple(float(v) for v in np.asarray(values, dtype=np.float64))


def _digest(action: ArrayLike) -> str:
    return hashlib.sha256(np.ascontiguousarray(action, dtype="<f4").tobytes()).hexdigest()
