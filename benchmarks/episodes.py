"""All that happened in an episode: one line of JSON, and arrays beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env.envs.dialogue import encode_dialogue

__all__ = ["EpisodeArrays", "EpisodeRecord", "StepRecord", "action_digest"]

INITIAL = -1
"""In ``EpisodeArrays``, the row of the first century's own model: the history has its record."""


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


@dataclass(frozen=True, eq=False)
class EpisodeArrays:
    """What is too long for a line, and enough to check it: actions, and every measurement.

    Attributes:
        actions: (n_steps, n_pairs) float32.
        preferences: (n_steps, n_pairs) float32, the margins that the agent saw.
        examinee_log_probs: (n_measured, n_answers) float32, of every answer to every prompt, a row
            a measurement (see ``ValueEmbedding``); empty where models have none.
        examinee_rows: (n_steps,) int32, the row that belongs to a step; -1 where the examinee is
            the first century's own model, or has no log-probabilities.
        proxy_log_probs: as ``examinee_log_probs``, of the human proxy.
        proxy_rows: as ``examinee_rows``.
    """

    actions: NDArray[np.float32]
    preferences: NDArray[np.float32]
    examinee_log_probs: NDArray[np.float32]
    examinee_rows: NDArray[np.int32]
    proxy_log_probs: NDArray[np.float32]
    proxy_rows: NDArray[np.int32]


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode, with nothing in it that depends on the clock or the machine's load.

    Attributes:
        agent: the agent's name.
        challenge: ``"follow"``, ``"predict"``, ``"coevolve"`` or a user's own.
        update: how the examinee was trained.
        update_from: ``"current"`` or ``"initial"``.
        steps_ahead: how many centuries ahead; 1 where the challenge does not look ahead.
        seed: of the episode.
        score: the official score; None while the episode is not finished.
        episode_return: the sum of the rewards, equal to the score but for rounding; ``"return"``
            in files.
        initial_values: (19,), the examinee at the start, and the proxy where there is one.
        steps: one record a step.
        arrays: what stands in a file of its own; None if it was not read.
    """

    agent: str
    challenge: str
    update: str
    update_from: str
    steps_ahead: int
    seed: int
    score: float | None
    episode_return: float
    initial_values: tuple[float, ...]
    steps: tuple[StepRecord, ...]
    arrays: EpisodeArrays | None = field(default=None, compare=False, repr=False)

    @property
    def examinee_values(self) -> NDArray[np.float64]:
        """(n_steps + 1, 19), the examinee at the start and after each step."""
        return np.array([self.initial_values, *(s.examinee_values for s in self.steps)])

    @property
    def proxy_values(self) -> NDArray[np.float64] | None:
        """(n_steps + 1, 19), the human proxy likewise; None outside Coevolve."""
        rows = [s.proxy_values for s in self.steps if s.proxy_values is not None]
        return np.array([self.initial_values, *rows]) if rows else None

    def to_dict(self) -> dict[str, Any]:
        """The episode without its arrays, as JSON-able values."""
        steps = [asdict(step) for step in self.steps]
        for step in steps:
            if step["proxy_values"] is None:
                del step["proxy_values"]
        return {
            "agent": self.agent,
            "challenge": self.challenge,
            "update": self.update,
            "update_from": self.update_from,
            "steps_ahead": self.steps_ahead,
            "seed": self.seed,
            "score": self.score,
            "return": self.episode_return,
            "initial_values": self.initial_values,
            "steps": steps,
        }

    def to_json(self, **more: Any) -> str:
        """The episode as one line, with ``more`` at its end; equal episodes give equal bytes."""
        return json.dumps({**self.to_dict(), **more}, allow_nan=False)

    @classmethod
    def from_dict(cls, raw: dict[str, Any], arrays: EpisodeArrays | None = None) -> EpisodeRecord:
        """The episode that ``to_dict`` took apart.

        Raises:
            KeyError: a field is missing.
            TypeError: a field is of another kind, or unknown.
        """
        known = dict(raw)
        known["episode_return"] = known.pop("return")
        known["initial_values"] = tuple(known["initial_values"])
        known["steps"] = tuple(_step_from(step) for step in known["steps"])
        return cls(**known, arrays=arrays)

    def observation(self, index: int) -> dict[str, Any]:
        """What the agent saw before step ``index``, as the environment gave it.

        Raises:
            ValueError: the record has no arrays.
        """
        if self.arrays is None:
            raise ValueError("the record was read without its arrays")
        step = self.steps[index]
        return {
            "century": np.int64(index + 1),
            "judge_values": _box(step.judge_values),
            "examinee_values": _box(self.examinee_values[index]),
            "preferences": self.arrays.preferences[index],
            "dialogue": encode_dialogue([reply for _, reply in step.dialogue]),
        }


def action_digest(action: ArrayLike) -> str:
    """SHA-256 of an action's float32 bytes."""
    return hashlib.sha256(np.ascontiguousarray(action, dtype="<f4").tobytes()).hexdigest()


def floats(values: ArrayLike) -> tuple[float, ...]:
    """An embedding as plain numbers."""
    return tuple(float(v) for v in np.asarray(values, dtype=np.float64))


def _step_from(raw: dict[str, Any]) -> StepRecord:
    known = {"proxy_values": None, **raw}
    for key in ("judge_values", "examinee_values", "proxy_values"):
        if known[key] is not None:
            known[key] = tuple(known[key])
    known["dialogue"] = tuple((prompt, reply) for prompt, reply in known["dialogue"])
    return StepRecord(**known)


def _box(values: ArrayLike) -> NDArray[np.float32]:
    return np.asarray(np.clip(np.asarray(values), 0.0, 1.0), dtype=np.float32)
