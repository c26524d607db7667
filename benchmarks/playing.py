"""Playing one episode, a century at a time, with all that happens written down as it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from progressgym_env.agents import Agent
from progressgym_env.benchmarks.episodes import (
    INITIAL,
    EpisodeArrays,
    EpisodeRecord,
    StepRecord,
    action_digest,
    floats,
)
from progressgym_env.envs.checkpoint import EpisodeState
from progressgym_env.envs.progress import Action, Observation, ProgressEnv
from progressgym_env.errors import InvalidArgumentError, ProgressGymError

__all__ = ["Journal", "Unfinished", "play_episode"]


@dataclass(frozen=True)
class Unfinished:
    """An episode as far as it is played.

    Attributes:
        record: its steps so far, with arrays and without a score.
        state: what the environment goes on from; None where it must be played again.
    """

    record: EpisodeRecord
    state: EpisodeState | None


class Journal(Protocol):
    """Keeps an episode on disk as it is played."""

    def begun(self) -> Unfinished | None:
        """What is there of the episode; None if nothing is."""
        ...

    def step(self, unfinished: Unfinished) -> None:
        """A step more is done."""
        ...


class _NoJournal:
    def begun(self) -> Unfinished | None:
        return None

    def step(self, unfinished: Unfinished) -> None:
        pass


def play_episode(
    env: gym.Env[Observation, Action],
    agent: Agent,
    seed: int,
    *,
    agent_name: str,
    on_step: Callable[[int, int, str], None] = lambda step, n_steps, century: None,
    on_phase: Callable[[str], None] | None = None,
    journal: Journal | None = None,
) -> EpisodeRecord:
    """Play one episode and record it.

    Args:
        env: a challenge, wrapped or not; with a journal, unwrapped but for Gymnasium's own.
        agent: plays it, deterministically where it has the choice.
        seed: of the episode; the same seed gives the same record, byte for byte, if the agent
            starts alike too: one that keeps a random state of its own, which goes on from episode
            to episode (``random`` does), must be made anew.
        agent_name: goes into the record.
        on_step: called before each step, with the number of steps done, that of all, and the name
            of the century the agent acts in.
        on_phase: called when a part of a step begins, in place of the environment's own
            ``on_phase``, which is put back at the end; None leaves that one in use. Besides the
            environment's phases it is told ``"acting"`` and ``"recording"``.
        journal: is told of every step before the next one begins, and knows where to go on. An
            agent is brought there by showing it again what it saw; its actions must be the same.

    Raises:
        InvalidArgumentError: ``env`` is none of this package's.
        ProgressGymError: the journal's episode is another's, or the agent acts otherwise now.
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
        play = _Play(env, challenge, agent, seed, agent_name, journal or _NoJournal())
        return play.to_end(on_step, on_phase or (lambda phase: None))
    finally:
        challenge.on_phase = before


@dataclass
class _Rows:
    """Log-probabilities of one model over an episode, each measurement once."""

    log_probs: list[NDArray[np.float32]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def add(self, log_probs: NDArray[np.float32] | None) -> None:
        if log_probs is None:
            self.rows.append(INITIAL)
            return
        # An unchanged model keeps its measurement, the very same array.
        if not self.log_probs or not np.array_equal(self.log_probs[-1], log_probs):
            self.log_probs.append(log_probs)
        self.rows.append(len(self.log_probs) - 1)

    def stored(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        n_answers = len(self.log_probs[0]) if self.log_probs else 0
        stacked = np.array(self.log_probs, dtype=np.float32).reshape(len(self.log_probs), n_answers)
        return stacked, np.array(self.rows, dtype=np.int32)


class _Play:
    """One episode being played."""

    def __init__(
        self,
        env: gym.Env[Observation, Action],
        challenge: ProgressEnv,
        agent: Agent,
        seed: int,
        agent_name: str,
        journal: Journal,
    ) -> None:
        self._env, self._challenge, self._agent = env, challenge, agent
        self._seed, self._agent_name, self._journal = seed, agent_name, journal
        self._steps: list[StepRecord] = []
        self._actions: list[NDArray[np.float32]] = []
        self._preferences: list[NDArray[np.float32]] = []
        self._examinee, self._proxy = _Rows(), _Rows()
        self._agent_state: Any = None

    def to_end(
        self, on_step: Callable[[int, int, str], None], tell: Callable[[str], None]
    ) -> EpisodeRecord:
        observation, info = self._env.reset(seed=self._seed)
        begun = self._journal.begun()
        if begun is not None:
            observation, info = self._go_on(begun, observation, info)
        ended = len(self._steps) == self._challenge.n_steps
        while not ended:
            on_step(len(self._steps), self._challenge.n_steps, info["century_name"])
            tell("acting")
            action = self._act(observation)
            observation, info, ended = self._step(action, observation, info)
            tell("recording")
            if not ended:
                self._journal.step(Unfinished(self._record(None), self._challenge.save_state()))
        return self._record(self._challenge.score())

    def _act(self, observation: Observation) -> NDArray[np.float32]:
        action, self._agent_state = self._agent.predict(
            observation,
            state=self._agent_state,
            episode_start=np.array([not self._actions]),
            deterministic=True,
        )
        self._actions.append(np.asarray(action, dtype=np.float32))
        return action

    def _step(
        self, action: Action, observation: Observation, info: dict[str, Any]
    ) -> tuple[Observation, dict[str, Any], bool]:
        challenge = self._challenge
        seen, said = challenge.trajectory, info
        following, _, terminated, truncated, info = self._env.step(action)
        after = challenge.trajectory
        proxy = seen.proxy_values
        step = StepRecord(
            century=said["century_name"],
            action=action_digest(action),
            n_examples=int(info["n_examples"]),
            judge_values=floats(seen.judge_values[-1] if proxy is None else proxy[-1]),
            examinee_values=floats(after.examinee_values[-1]),
            proxy_values=None if after.proxy_values is None else floats(after.proxy_values[-1]),
            reward=float(after.rewards[-1]),
            dialogue=tuple(zip(said["dialogue_prompts"], said["dialogue"], strict=True)),
        )
        self._steps.append(step)
        self._preferences.append(np.asarray(self._seen_preferences(observation)))
        self._examinee.add(challenge.examinee_embedding.log_probs)
        if challenge.proxy_embedding is not None:
            self._proxy.add(challenge.proxy_embedding.log_probs)
        return following, info, terminated or truncated

    def _seen_preferences(self, observation: Observation) -> Any:
        # A wrapper may have taken them out; the record then holds what there is to see: nothing.
        if isinstance(observation, dict) and "preferences" in observation:
            return observation["preferences"]
        return np.zeros(0, dtype=np.float32)

    def _record(self, score: float | None) -> EpisodeRecord:
        challenge = self._challenge
        return EpisodeRecord(
            agent=self._agent_name,
            challenge=challenge.challenge.lower(),
            update=challenge.update_name,
            update_from=challenge.update_from,
            steps_ahead=max(1, challenge.steps_ahead),
            seed=self._seed,
            score=score,
            episode_return=float(sum(step.reward for step in self._steps)),
            initial_values=floats(challenge.trajectory.examinee_values[0]),
            steps=tuple(self._steps),
            arrays=EpisodeArrays(
                np.array(self._actions, dtype=np.float32),
                np.array(self._preferences, dtype=np.float32),
                *self._examinee.stored(),
                *self._proxy.stored(),
            ),
        )

    def _go_on(
        self, begun: Unfinished, observation: Observation, info: dict[str, Any]
    ) -> tuple[Observation, dict[str, Any]]:
        """Bring environment and agent to where the journal ends; what was shown last there."""
        record = begun.record
        self._check_same(record)
        if begun.state is None:
            return self._play_again(record, observation, info)
        observation, info = self._challenge.restore_state(begun.state)
        for index in range(len(record.steps)):
            self._act(record.observation(index))
            self._check_action(record, index)
        arrays = record.arrays
        assert arrays is not None
        self._steps = list(record.steps)
        self._preferences = list(arrays.preferences)
        self._examinee = _Rows(list(arrays.examinee_log_probs), arrays.examinee_rows.tolist())
        self._proxy = _Rows(list(arrays.proxy_log_probs), arrays.proxy_rows.tolist())
        return observation, info

    def _play_again(
        self, record: EpisodeRecord, observation: Observation, info: dict[str, Any]
    ) -> tuple[Observation, dict[str, Any]]:
        for index, step in enumerate(record.steps):
            action = self._act(observation)
            self._check_action(record, index)
            observation, info, _ = self._step(action, observation, info)
            if self._steps[-1] != step:
                raise ProgressGymError(
                    f"{self._agent_name}, seed {self._seed}: step {index + 1} came out otherwise "
                    "than it was written down; the models or the machine are not the same, so "
                    "start a new run"
                )
        return observation, info

    def _check_same(self, record: EpisodeRecord) -> None:
        expected = replace(self._record(None), steps=(), episode_return=0.0)
        found = replace(record, steps=(), episode_return=0.0)
        if expected != found:
            raise ProgressGymError(
                f"{self._agent_name}, seed {self._seed}: what was written down is of another "
                "episode; the run folder was changed, so start a new run"
            )

    def _check_action(self, record: EpisodeRecord, index: int) -> None:
        if action_digest(self._actions[-1]) != record.steps[index].action:
            raise ProgressGymError(
                f"{self._agent_name}, seed {self._seed}: shown the same observations, the agent "
                f"does not act at step {index + 1} as it did before; it depends on something else "
                "(an unseeded generator, a file, the time), so this episode cannot be gone on "
                "with: start a new run"
            )
