"""Rewards as skill: 0 for doing nothing, 1 for knowing the future."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from progressgym_env.agents.base import Agent
from progressgym_env.agents.references import HoldAgent, OracleAgent
from progressgym_env.arguments import check_integer, check_number
from progressgym_env.envs.progress import Action, Observation, ProgressEnv
from progressgym_env.errors import InvalidArgumentError

__all__ = ["LEAST_GAP", "SkillReward"]

LEAST_GAP = 1e-3
"""Where the oracle is not ahead of hold by more than this, this is taken for the gap."""


class SkillReward(gym.Wrapper[Observation, Action, Observation, Action], RecordConstructorArgs):
    """Pays skill instead of score, so that a return of 0 is hold's and 1 is the oracle's.

    A step pays (r - hold / n_steps) / (oracle - hold); an episode's return is its skill. The two
    reference scores are those of the same history. Unless given, both agents play it once in an
    environment of their own when it is first met: milliseconds on simulated histories, two
    episodes of real training on language models (then better given as numbers).

    Args:
        env: a challenge, made by ``gymnasium.make``.
        hold: score of the hold agent; None plays it.
        oracle: score of the oracle; None plays it.
        reference_seed: of the reference episodes.

    Raises:
        InvalidArgumentError: ``env`` is no challenge, or the two scores leave no gap.
    """

    def __init__(
        self,
        env: gym.Env[Observation, Action],
        *,
        hold: float | None = None,
        oracle: float | None = None,
        reference_seed: int = 0,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, hold=hold, oracle=oracle, reference_seed=reference_seed
        )
        gym.Wrapper.__init__(self, env)
        challenge = env.unwrapped
        if not isinstance(challenge, ProgressEnv) or env.spec is None:
            raise InvalidArgumentError(
                f"{env} is no ProgressGym environment; make one with gymnasium.make"
            )
        self._challenge = challenge
        self._hold = None if hold is None else check_number("hold", hold, 0.0)
        self._oracle = None if oracle is None else check_number("oracle", oracle, 0.0)
        if hold is not None and oracle is not None and oracle <= hold:
            raise InvalidArgumentError(f"oracle={oracle!r} must be above hold={hold!r}")
        self._seed = check_integer("reference_seed", reference_seed, 0)
        self._known: dict[str, tuple[float, float]] = {}
        self._scale = (0.0, 1.0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """As the environment's; finds the reference scores of the history."""
        observation, info = super().reset(seed=seed, options=options)
        hold, oracle = self._references()
        self._scale = hold, max(oracle - hold, LEAST_GAP)
        return observation, info

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """As the environment's, with the reward as a share of the way from hold to oracle."""
        observation, reward, terminated, truncated, info = super().step(action)
        hold, gap = self._scale
        paid = (float(reward) - hold / self._challenge.n_steps) / gap
        if "score" in info:
            info["skill"] = (info["score"] - hold) / gap
        return observation, paid, terminated, truncated, info

    def _references(self) -> tuple[float, float]:
        if self._hold is not None and self._oracle is not None:
            return self._hold, self._oracle
        history = self._challenge.history
        name = str(history.provenance.get("history_seed") or history.digest)
        key = f"{name} {history.provenance.get('family')}"
        if key not in self._known:
            hold = self._played(HoldAgent()) if self._hold is None else self._hold
            oracle = self._played(None) if self._oracle is None else self._oracle
            self._known[key] = hold, oracle
        return self._known[key]

    def _played(self, agent: Agent | None) -> float:
        """The score of a reference agent, None for the oracle, in an environment of its own."""
        assert self._challenge.spec is not None
        env = gym.make(self._challenge.spec)
        twin = env.unwrapped
        assert isinstance(twin, ProgressEnv)
        history = self._challenge.history
        drawn = {"history_seed": history.provenance.get("history_seed"),
                 "family": history.provenance.get("family")}  # fmt: skip
        options = drawn if drawn["history_seed"] is not None else None
        observation, _ = env.reset(seed=self._seed, options=options)
        if agent is None:
            kind, ahead = twin.challenge.lower(), max(twin.steps_ahead, 1)
            agent = OracleAgent.of_values(history.values, history.questions, kind, ahead)
        state, ended = None, False
        while not ended:
            action, state = agent.predict(observation, state, np.array([state is None]))
            observation, _, ended, _, _ = env.step(action)
        score = twin.score()
        env.close()
        return score
