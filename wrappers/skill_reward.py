"""Rewards as skill: 0 for doing nothing, 1 for knowing the future."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs, seeding

from progressgym_env.agents.base import Agent
from progressgym_env.agents.references import HoldAgent, OracleAgent
from progressgym_env.arguments import check_integer, check_number
from progressgym_env.envs.progress import Action, Observation, ProgressEnv
from progressgym_env.envs.registry import kind_of
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.simulated import SimulatedHistory
from progressgym_env.values.embedding import FloatArray

__all__ = ["LEAST_GAP", "SkillReward"]

LEAST_GAP = 1e-3
"""Where the oracle is not ahead of hold by more than this, there is no skill."""


class SkillReward(gym.Wrapper[Observation, Action, Observation, Action], RecordConstructorArgs):
    """Pays skill instead of score, so that a return of 0 is hold's and 1 is the oracle's.

    A step pays (r - h) / (oracle - hold): r what the challenge pays, h what it pays hold for the
    same step, and the scores of the two references below. An episode's return is its skill, which
    its end also tells as ``info["skill"]``.

    On simulated histories the references play the very episode that begins, chance included, in an
    environment of their own; so a reset takes as long as two more episodes. On measured histories
    they play once, with ``reference_seed``: two episodes of real training, so the scores are better
    given where they are known. There the history is the same, but chance is not: hold gets 0 and
    the oracle 1 with that seed alone, and with others about that (hold exactly, save in Coevolve).

    Where knowing the future is worth no more than ``LEAST_GAP``, skill is undefined: a step then
    pays r - h as it is, ``info`` holds no ``"skill"``, and its ``"skill_defined"`` is False.

    Args:
        env: a challenge, made by ``gymnasium.make``.
        hold: score of the hold agent, every step's h an equal share of it; None plays it.
        oracle: score of the oracle; None plays it.
        reference_seed: of the reference episodes on a measured history.

    Raises:
        InvalidArgumentError: ``env`` is no challenge, or resets itself, or the two scores leave no
            gap.
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
        if any(wrapper.name == "Autoreset" for wrapper in env.spec.additional_wrappers):
            raise InvalidArgumentError(
                f"{env} begins episodes by itself, whose references nobody would play; put "
                "SkillReward inside Autoreset"
            )
        self._challenge = challenge
        self._hold = None if hold is None else check_number("hold", hold, 0.0)
        self._oracle = None if oracle is None else check_number("oracle", oracle, 0.0)
        if hold is not None and oracle is not None and oracle - hold <= LEAST_GAP:
            raise InvalidArgumentError(
                f"oracle={oracle!r} must be above hold={hold!r} by more than {LEAST_GAP}"
            )
        self._seed = check_integer("reference_seed", reference_seed, 0)
        # Of a measured history, which stays the same: hold's rewards, and the oracle's score.
        self._known: tuple[FloatArray, float] | None = None
        # Plays the references on simulated histories.
        self._twin: ProgressEnv | None = None
        self._hold_rewards: FloatArray = np.zeros(challenge.n_steps)
        self._gap = 0.0
        self._n_done = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """As the environment's; finds the references of the episode."""
        present = self._challenge.np_random
        before = deepcopy(present)
        observation, info = super().reset(seed=seed, options=options)
        if self._challenge.np_random is not present:
            before, _ = seeding.np_random(self._challenge.np_random_seed)
        self._hold_rewards, oracle = self._references(before)
        self._gap = oracle - float(self._hold_rewards.sum())
        self._n_done = 0
        return observation, {**info, "skill_defined": self._gap > LEAST_GAP}

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """As the environment's, with the reward as a share of the way from hold to oracle."""
        observation, reward, terminated, truncated, info = super().step(action)
        defined = self._gap > LEAST_GAP
        scale = self._gap if defined else 1.0
        paid = (float(reward) - float(self._hold_rewards[self._n_done])) / scale
        self._n_done += 1
        info = {**info, "skill_defined": defined}
        if defined and "score" in info:
            info["skill"] = (info["score"] - float(self._hold_rewards.sum())) / scale
        return observation, paid, terminated, truncated, info

    def close(self) -> None:
        """Close the environment, and that of the references."""
        self._close_twin()
        super().close()

    def _references(self, rng: np.random.Generator) -> tuple[FloatArray, float]:
        """What hold is paid, (n_steps,), and the oracle's score.

        Args:
            rng: the environment's generator as it was when the present episode began.
        """
        if self._known is not None:
            return self._known
        simulated = isinstance(self._challenge.history, SimulatedHistory)
        if not simulated:
            rng, _ = seeding.np_random(self._seed)
        n_steps = self._challenge.n_steps
        if self._hold is None:
            hold = self._played(HoldAgent(), rng)
        else:
            hold = np.full(n_steps, self._hold / n_steps)
        if self._oracle is None:
            oracle = float(self._played(self._oracle_agent(), rng).sum())
        else:
            oracle = self._oracle
        if not simulated:
            self._known = hold, oracle
            self._close_twin()
        return hold, oracle

    def _oracle_agent(self) -> OracleAgent:
        challenge, history = self._challenge, self._challenge.history
        # Of a user's own challenge, what it is a kind of; the oracle refuses what is none.
        kind = kind_of(type(challenge)) or challenge.challenge.lower()
        ahead = max(challenge.steps_ahead, 1)
        return OracleAgent.of_values(history.values, history.questions, kind, ahead)

    def _played(self, agent: Agent, rng: np.random.Generator) -> FloatArray:
        """What ``agent`` is paid, (n_steps,), in the present history with the chance of ``rng``."""
        if self._twin is None:
            assert self._challenge.spec is not None
            made = gym.make(self._challenge.spec).unwrapped
            assert isinstance(made, ProgressEnv)
            self._twin = made
        told = self._challenge.history.provenance
        options = {"history_seed": told.get("history_seed"), "family": told.get("family")}
        # Drawn by number, a history takes as much from the generator as drawn by chance. Measured
        # ones, and simulations of them, are always the same.
        drawn = options if options["history_seed"] is not None else None
        self._twin.np_random = deepcopy(rng)
        observation, _ = self._twin.reset(options=drawn)
        state, ended, rewards = None, False, []
        while not ended:
            action, state = agent.predict(observation, state, np.array([state is None]))
            observation, reward, ended, _, _ = self._twin.step(action)
            rewards.append(reward)
        return np.array(rewards)

    def _close_twin(self) -> None:
        twin, self._twin = self._twin, None
        if twin is not None:
            twin.close()
