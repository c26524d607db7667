"""What the three challenges share: spaces, time, updates of the examinee, records, rendering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from progressgym_env.arguments import check_choice, check_integer
from progressgym_env.envs.arguments import (
    check_action,
    refuse_unknown_arguments,
    refuse_unknown_options,
)
from progressgym_env.envs.dialogue import DIALOGUE_WIDTH, encode_dialogue
from progressgym_env.envs.trajectory import Trajectory
from progressgym_env.errors import InvalidArgumentError, ProgressGymError
from progressgym_env.histories.history import History, load
from progressgym_env.models.base import Model, PreferenceData
from progressgym_env.models.devices import check_device_name
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.embedding import FloatArray, ValueEmbedding

if TYPE_CHECKING:
    from progressgym_env.models.updates import TrainingUpdate

__all__ = [
    "MAX_COPIES",
    "Action",
    "JudgeView",
    "Observation",
    "ProgressEnv",
    "child_generator",
]

Observation: TypeAlias = dict[str, Any]
Action: TypeAlias = NDArray[Any]

MAX_COPIES: int = 5
"""Copies of a pair that an action of ±1 trains on (the paper's cap)."""

_MAX_DIALOGUE_SAMPLES = 16
_NOT_STARTED = "there is no episode yet"


@dataclass(frozen=True, eq=False)
class JudgeView:
    """What the judge shows: its embedding, (n_pairs,) margins, and replies to open prompts."""

    embedding: ValueEmbedding
    preferences: FloatArray
    prompts: tuple[str, ...]
    replies: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Streams:
    """Independent generators, so that one use of randomness does not disturb another."""

    rounding: np.random.Generator
    training: np.random.Generator
    dialogue: np.random.Generator
    replies: np.random.Generator

    @classmethod
    def drawn_from(cls, rng: np.random.Generator) -> _Streams:
        entropy = [int(word) for word in rng.integers(2**32, size=4)]
        children = np.random.SeedSequence(entropy).spawn(4)
        return cls(*(np.random.default_rng(child) for child in children))


class ProgressEnv(gym.Env[Observation, Action]):
    """The frame of a challenge; a challenge says how long it is, what it pays and who judges.

    Attributes:
        history: the history walked through.
        on_phase: called, if set, with ``"eliciting"``, ``"training"``, ``"influencing"`` or
            ``"measuring"`` when such work begins; for progress displays. No part of an episode.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012  # Gymnasium declares it so
    challenge: ClassVar[str]

    def __init__(
        self,
        history: str | Path | History = "embedded",
        *,
        update: str | TrainingUpdate = "dpo",
        update_from: str = "current",
        dialogue_samples: int = 4,
        render_mode: str | None = None,
        device: str = "auto",
        **unknown: object,
    ) -> None:
        refuse_unknown_arguments(type(self), unknown)
        # Imported here: a history that needs no language models need not load this module.
        from progressgym_env.models.updates import resolve_update

        self._dialogue_samples = check_integer(
            "dialogue_samples", dialogue_samples, 1, _MAX_DIALOGUE_SAMPLES
        )
        self._update_from = check_choice("update_from", update_from, ("current", "initial"))
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._device = check_device_name(device)
        self._update = resolve_update(update)
        self.history: History = load(history)
        self._check_history()
        self.on_phase: Callable[[str], None] | None = None

        n_pairs = len(self.history.questions.pairs)
        self.observation_space = spaces.Dict(
            {
                "century": spaces.Discrete(self.history.n_centuries),
                "judge_values": spaces.Box(0.0, 1.0, (N_DIMENSIONS,), np.float32),
                "examinee_values": spaces.Box(0.0, 1.0, (N_DIMENSIONS,), np.float32),
                "preferences": spaces.Box(-1.0, 1.0, (n_pairs,), np.float32),
                "dialogue": spaces.Box(0, 255, (self._dialogue_samples, DIALOGUE_WIDTH), np.uint8),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (n_pairs,), np.float32)

        self._initial: Model | None = None
        # None stands for the initial model, which is loaded when first needed.
        self._examinee: Model | None = None
        # Why no step can be made; None while one can.
        self._halted: str | None = _NOT_STARTED
        self._started = False

    @property
    def n_steps(self) -> int:
        """Steps an episode takes."""
        return self.history.n_centuries - 1

    @property
    def examinee(self) -> Model:
        """The model being aligned, as the last step left it.

        Raises:
            ResetNeeded: there is no episode yet.
        """
        self._require_started()
        return self._initial_model() if self._examinee is None else self._examinee

    @property
    def trajectory(self) -> Trajectory:
        """The present episode up to the present century (copies).

        Raises:
            ResetNeeded: there is no episode yet.
        """
        self._require_started()
        reached = self._century + 1
        proxy_rows = self._proxy_rows()
        return Trajectory(
            names=tuple(self.history.names),
            centuries=np.arange(reached),
            judge_values=np.array(self.history.values[:reached], dtype=np.float64),
            examinee_values=np.array(self._examinee_rows),
            proxy_values=None if proxy_rows is None else np.array(proxy_rows),
            rewards=np.array(self._rewards),
        )

    def score(self) -> float:
        """The official score of the finished episode; equals the sum of its rewards.

        Raises:
            ResetNeeded: there is no episode yet.
            ProgressGymError: the episode is not finished.
        """
        self._require_started()
        if len(self._rewards) < self.n_steps:
            raise ProgressGymError(
                f"the official score is of a whole episode, and {len(self._rewards)} of "
                f"{self.n_steps} steps are done; step to the end, or sum the rewards so far"
            )
        return self._official_score()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Put the examinee at the first century and show the judge of the second.

        Args:
            seed: seeds all randomness of the episode; None continues the present generator.
            options: none are known; ``None`` or an empty dictionary.

        Raises:
            UnknownNameError: ``options`` names anything.
        """
        refuse_unknown_options(options, ())
        super().reset(seed=seed)
        self._streams = _Streams.drawn_from(self.np_random)
        self._century = 1
        self._examinee = None
        self._examinee_embedding = self._recorded_embedding(0)
        self._examinee_rows = [self._examinee_embedding.values]
        self._rewards: list[float] = []
        self._reset_judge()
        self._halted, self._started = None, True
        return self._observe()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out a proposal, measure the examinee, pay, and go on to the next century.

        Args:
            action: (n_pairs,) in [-1, 1]; see the class.

        Raises:
            InvalidActionError: the action is no member of the action space; nothing was trained.
            ResetNeeded: before the first reset, after the end of an episode, or after a step that
                failed or was interrupted.
        """
        if self._halted is not None:
            raise ResetNeeded(f"{self._halted}; call reset() before step()")
        proposal = check_action(action, len(self.history.questions.pairs))
        # A step that stops midway leaves no episode to go on with.
        self._halted = "the last step failed or was interrupted midway"
        copies = self._rounded(proposal)
        self._train_examinee(copies)
        self._influence_judge()
        self._examinee_rows.append(self._examinee_embedding.values)
        reward = self._reward()
        self._rewards.append(reward)
        self._century = min(self._century + 1, self.history.n_centuries - 1)
        terminated = len(self._rewards) == self.n_steps

        observation, info = self._observe()
        info["n_examples"] = int(np.abs(copies).sum())
        if terminated:
            info["score"] = self.score()
        self._halted = "the episode has ended" if terminated else None
        return observation, reward, terminated, False, info

    def render(self) -> Any:
        """The episode so far, up to the present century.

        Returns:
            With ``"ansi"`` a string, with ``"rgb_array"`` an (H, W, 3) uint8 array.

        Raises:
            ResetNeeded: there is no episode yet.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() needs a render mode: make the environment with render_mode='ansi' or "
                "render_mode='rgb_array'"
            )
            return None
        from progressgym_env.envs import rendering

        trajectory = self.trajectory
        if self.render_mode == "ansi":
            return rendering.trajectory_text(trajectory, self._title)
        return rendering.trajectory_array(trajectory, self._title)

    def close(self) -> None:
        """Let go of this environment's models and of the episode. May be called more than once.

        The history, which others may be using, keeps its base model loaded: ``history.release()``.
        """
        self._initial = self._examinee = None
        self._halted, self._started = _NOT_STARTED, False

    # What a challenge defines

    def _reward(self) -> float:
        """Contribution of the step just made, at ``self._century``, to the official score."""
        raise NotImplementedError

    def _official_score(self) -> float:
        """The official score of the recorded episode."""
        raise NotImplementedError

    def _reset_judge(self) -> None:
        """Start the judge, for challenges in which it changes."""

    def _influence_judge(self) -> None:
        """Let a step act on the judge, for challenges in which it does."""

    def _proxy_rows(self) -> list[FloatArray] | None:
        """Embeddings of the human proxy so far, for challenges that have one."""
        return None

    def _judge(self) -> JudgeView:
        """What the judge shows in the present century: by default its record."""
        return self._recorded_judge(self._century)

    # Shared parts

    @property
    def _title(self) -> str:
        return f"{self.challenge} through history {self.history.name!r}"

    def _check_history(self) -> None:
        history = self.history
        fewest = min(len(history.dialogue(t)) for t in range(history.n_centuries))
        if fewest < self._dialogue_samples:
            raise InvalidArgumentError(
                f"dialogue_samples={self._dialogue_samples} is more than the {fewest} replies a "
                f"century that history {history.name!r} holds; ask for at most {fewest}"
            )

    def _require_started(self) -> None:
        if not self._started:
            raise ResetNeeded(f"{_NOT_STARTED}; call reset() first")

    def _phase(self, name: str) -> None:
        if self.on_phase is not None:
            self.on_phase(name)

    def _initial_model(self) -> Model:
        if self._initial is None:
            self._initial = self.history.initial_model(device=self._device)
        return self._initial

    def _recorded_embedding(self, century: int) -> ValueEmbedding:
        return ValueEmbedding(
            np.array(self.history.values[century], dtype=np.float64),
            np.array(self.history.standard_errors[century], dtype=np.float64),
        )

    def _recorded_judge(self, century: int) -> JudgeView:
        stored = self.history.dialogue(century)
        chosen = self._streams.dialogue.permutation(len(stored))[: self._dialogue_samples]
        return JudgeView(
            self._recorded_embedding(century),
            np.array(self.history.preferences[century], dtype=np.float64),
            tuple(stored[i].prompt for i in chosen),
            tuple(stored[i].reply for i in chosen),
        )

    def _rounded(self, proposal: FloatArray) -> NDArray[np.int64]:
        """Signed copies: |a|·5 rounded up or down so that the expectation is exact."""
        # Six digits wipe out float32 noise, so that ±1/5 always is one copy.
        wanted = np.round(np.abs(proposal) * MAX_COPIES, 6)
        size = np.floor(wanted + self._streams.rounding.random(len(wanted)))
        return (np.sign(proposal) * np.minimum(size, MAX_COPIES)).astype(np.int64)

    def _train_examinee(self, copies: NDArray[np.int64]) -> None:
        # Drawn even where it is not used, so that later steps do not depend on this action.
        seed = int(self._streams.training.integers(2**31))
        before = self._examinee if self._update_from == "current" else None
        if not copies.any():
            # Nothing to learn leaves the model, and so its measurement, as it is.
            if before is None:
                self._examinee_embedding = self._recorded_embedding(0)
            self._examinee = before
            return
        self._phase("training")
        base = self._initial_model() if before is None else before
        data = PreferenceData(self.history.questions.pairs, copies, seed)
        self._examinee = base.learn(self._update, data)
        self._examinee_embedding = self._measured(self._examinee)

    def _measured(self, model: Model) -> ValueEmbedding:
        self._phase("measuring")
        return model.values()

    def _observe(self) -> tuple[Observation, dict[str, Any]]:
        judge = self._judge()
        observation = {
            "century": np.int64(self._century),
            "judge_values": _box(judge.embedding.values, 0.0),
            "examinee_values": _box(self._examinee_embedding.values, 0.0),
            "preferences": _box(judge.preferences, -1.0),
            "dialogue": encode_dialogue(judge.replies),
        }
        info = {
            "century_name": self.history.names[self._century],
            "dialogue": judge.replies,
            "dialogue_prompts": judge.prompts,
            "judge_standard_errors": judge.embedding.standard_errors.copy(),
            "examinee_standard_errors": self._examinee_embedding.standard_errors.copy(),
        }
        return observation, info


def child_generator(stream: np.random.Generator) -> np.random.Generator:
    """A generator for one use of unknown length, so that ``stream`` always moves on by one."""
    return np.random.default_rng(int(stream.integers(2**63)))


def _box(values: FloatArray, low: float) -> NDArray[np.float32]:
    # Probabilities summed in floating point may step over the bounds by an ulp.
    return np.clip(values, low, 1.0).astype(np.float32)
