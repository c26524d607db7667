"""What the three challenges share: spaces, time, updates of the examinee, records, rendering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from progressgym_env.arguments import check_choice, check_integer
from progressgym_env.envs.arguments import check_action, refuse_unknown_arguments
from progressgym_env.envs.checkpoint import (
    EpisodeState,
    embedding_arrays,
    embedding_from,
    part_of,
    prefixed,
)
from progressgym_env.envs.making import make_observation, make_world
from progressgym_env.envs.spaces import MAX_DIALOGUE_SAMPLES, action_space, observation_space
from progressgym_env.envs.trajectory import Trajectory
from progressgym_env.envs.worlds import Influence, JudgeView
from progressgym_env.errors import ProgressGymError
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load
from progressgym_env.models.base import Model
from progressgym_env.models.devices import check_device_name
from progressgym_env.models.engines import VllmSettings, check_engine
from progressgym_env.models.launched import check_launch
from progressgym_env.values.choosing import Questions
from progressgym_env.values.embedding import FloatArray, ValueEmbedding

if TYPE_CHECKING:
    from progressgym_env.models.updates import TrainingUpdate

__all__ = ["Action", "Observation", "ProgressEnv"]

Observation: TypeAlias = dict[str, Any]
Action: TypeAlias = NDArray[Any]

_NOT_STARTED = "there is no episode yet"


class ProgressEnv(gym.Env[Observation, Action]):
    """The frame of a challenge; a challenge says how long it is, what it pays and who judges.

    Attributes:
        history: the history walked through; a simulated one is another after every reset.
        on_phase: called, if set, with ``"eliciting"``, ``"training"``, ``"influencing"`` or
            ``"measuring"`` when such work begins; for progress displays. No part of an episode.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012  # Gymnasium declares it so
    challenge: ClassVar[str]

    def __init__(
        self,
        history: str | Path | History = "embedded",
        *,
        questions: Questions | None = None,
        update: str | TrainingUpdate = "dpo",
        update_from: str = "current",
        dialogue_samples: int = 4,
        render_mode: str | None = None,
        device: str = "auto",
        engine: str | VllmSettings = "transformers",
        launch: str | Sequence[str] | None = None,
        **unknown: object,
    ) -> None:
        refuse_unknown_arguments(type(self), unknown)
        self._dialogue_samples = check_integer(
            "dialogue_samples", dialogue_samples, 1, MAX_DIALOGUE_SAMPLES
        )
        self._update_from = check_choice("update_from", update_from, ("current", "initial"))
        self._update_name = update if isinstance(update, str) else str(getattr(update, "name", ""))
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._device = check_device_name(device)
        self.on_phase: Callable[[str], None] | None = None
        self._world = make_world(
            load(history, questions),
            update,
            from_initial=self._update_from == "initial",
            n_samples=self._dialogue_samples,
            influence=self._influence,
            device=self._device,
            engine=check_engine(engine),
            launch=check_launch(launch),
            tell=self._phase,
        )
        self._check_history()

        n_pairs = len(self.history.questions.pairs)
        self.observation_space = observation_space(
            self.history.n_centuries, n_pairs, self._dialogue_samples
        )
        self.action_space = action_space(n_pairs)
        # Why no step can be made; None while one can.
        self._halted: str | None = _NOT_STARTED
        self._started = False

    @property
    def history(self) -> History:
        """The history walked through; a simulated one is another after every reset."""
        return self._world.history

    @property
    def update_name(self) -> str:
        """How the examinee is trained, by name."""
        return self._update_name

    @property
    def update_from(self) -> str:
        """``"current"``, or ``"initial"`` where every update starts from the first model."""
        return self._update_from

    @property
    def n_steps(self) -> int:
        """Steps an episode takes."""
        return self.history.n_centuries - 1

    @property
    def steps_ahead(self) -> int:
        """How many centuries after the present one the examinee is measured against."""
        return 0

    @property
    def examinee(self) -> Model:
        """The model being aligned, as the last step left it.

        Raises:
            ResetNeeded: there is no episode yet.
        """
        self._require_started()
        return self._world.examinee

    @property
    def examinee_embedding(self) -> ValueEmbedding:
        """The examinee's values as last measured; ResetNeeded before the first reset."""
        self._require_started()
        return self._world.examinee_embedding

    @property
    def proxy_embedding(self) -> ValueEmbedding | None:
        """The human proxy's likewise; None outside Coevolve."""
        self._require_started()
        return self._world.proxy_embedding

    @property
    def trajectory(self) -> Trajectory:
        """The present episode up to the present century (copies).

        Raises:
            ResetNeeded: there is no episode yet.
        """
        self._require_started()
        reached = self._century + 1
        return Trajectory(
            names=tuple(self.history.names),
            centuries=np.arange(reached),
            judge_values=np.array(self.history.values[:reached], dtype=np.float64),
            examinee_values=np.array(self._examinee_rows),
            proxy_values=np.array(self._proxy_states) if self._proxy_states else None,
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
        trajectory = self.trajectory
        return self.score_of(
            examinee_values=trajectory.examinee_values,
            proxy_values=trajectory.proxy_values,
            century_values=np.asarray(self.history.values, dtype=np.float64),
            steps_ahead=max(self.steps_ahead, 1),
        )

    @classmethod
    def score_of(
        cls,
        *,
        examinee_values: FloatArray,
        proxy_values: FloatArray | None,
        century_values: FloatArray,
        steps_ahead: int = 1,
    ) -> float:
        """The official score of a whole episode, from its embeddings alone.

        Args:
            examinee_values: (n_steps + 1, 19), the examinee at the start and after each step.
            proxy_values: (n_steps + 1, 19), the human proxy likewise; None outside Coevolve.
            century_values: (n_centuries, 19), the people of all centuries.
            steps_ahead: as in Predict; 1 where a challenge has none.

        Raises:
            InvalidArgumentError: the arrays are not of one whole episode.
        """
        raise NotImplementedError

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Put the examinee at the first century and show the judge of the second.

        Args:
            seed: seeds all randomness of the episode; None continues the present generator.
            options: of a simulated history, ``"history_seed"`` and ``"family"`` (see
                :class:`~progressgym_env.histories.simulated.SimulatedHistories`); of any other
                none are known.

        Raises:
            UnknownNameError: ``options`` names anything else.
            InvalidArgumentError: an option has no legal value.
        """
        super().reset(seed=seed)
        self._world.begin(self.np_random, options)
        self._century = 1
        self._examinee_rows = [self._world.examinee_embedding.values]
        proxy = self._world.proxy_embedding
        self._proxy_states = [] if proxy is None else [proxy.values]
        self._rewards: list[float] = []
        self._halted, self._started = None, True
        return self._observe()

    def save_state(self) -> EpisodeState | None:
        """The present episode between two steps, to be gone on with by :meth:`restore_state`.

        None where that is not needed or cannot be: simulated histories, whose episodes take no
        time, and models of another kind than language models. Play those again from their seed.

        Raises:
            ResetNeeded: there is no episode, or its last step failed.
        """
        if self._halted is not None:
            raise ResetNeeded(f"{self._halted}; call reset() first")
        world = self._world.saved()
        if world is None:
            return None
        shown = embedding_arrays(self._shown.embedding)
        own = {
            "century": self._century,
            "rewards": list(self._rewards),
            "prompts": self._shown.prompts,
            "replies": self._shown.replies,
            "generator": self.np_random.bit_generator.state,
            "world": world.numbers,
        }
        arrays = {
            "examinee_rows": np.array(self._examinee_rows),
            "shown_preferences": self._shown.preferences,
            **prefixed("shown", shown),
            **prefixed("world", world.arrays),
        }
        if self._proxy_states:
            arrays["proxy_states"] = np.array(self._proxy_states)
        return EpisodeState(own, arrays)

    def restore_state(self, state: EpisodeState) -> tuple[Observation, dict[str, Any]]:
        """Go on with an episode of an environment made alike, in place of :meth:`reset`.

        Returns:
            The observation and info that were shown last; what follows is what would have
            followed there, bit for bit on the same machine, versions and threads.
        """
        numbers, arrays = state.numbers, state.arrays
        self.np_random.bit_generator.state = numbers["generator"]
        self._world.restore(EpisodeState(numbers["world"], part_of("world", arrays)))
        self._century = int(numbers["century"])
        self._rewards = list(numbers["rewards"])
        self._examinee_rows = list(np.array(arrays["examinee_rows"]))
        self._proxy_states = list(np.array(arrays.get("proxy_states", ())))
        embedding = embedding_from(part_of("shown", arrays))
        assert embedding is not None
        preferences = np.array(arrays["shown_preferences"])
        said = tuple(numbers["prompts"]), tuple(numbers["replies"])
        self._shown = JudgeView(embedding, preferences, *said)
        self._halted, self._started = None, True
        return self._show()

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
        n_examples = self._world.train(proposal)
        self._world.influence(self._century)
        self._examinee_rows.append(self._world.examinee_embedding.values)
        if self._world.proxy_embedding is not None:
            self._proxy_states.append(self._world.proxy_embedding.values)
        reward = self._reward()
        self._rewards.append(reward)
        self._century = min(self._century + 1, self.history.n_centuries - 1)
        terminated = len(self._rewards) == self.n_steps

        observation, info = self._observe()
        info["n_examples"] = n_examples
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
        """Let go of this environment's models, its engine and the episode; more than once is fine.

        The history, which others may be using, keeps its base model loaded: ``history.release()``.
        """
        self._world.close()
        self._halted, self._started = _NOT_STARTED, False

    # What a challenge defines

    def _reward(self) -> float:
        """Contribution of the step just made, at ``self._century``, to the official score."""
        raise NotImplementedError

    @property
    def _influence(self) -> Influence | None:
        """How the judge changes, for the challenge in which it does."""
        return None

    # Shared parts

    @property
    def _title(self) -> str:
        return f"{self.challenge} through history {self.history.name!r}"

    def _check_history(self) -> None:
        """Refuse a history that the challenge cannot be played on."""

    def _require_started(self) -> None:
        if not self._started:
            raise ResetNeeded(f"{_NOT_STARTED}; call reset() first")

    def _phase(self, name: str) -> None:
        if self.on_phase is not None:
            self.on_phase(name)

    def _observe(self) -> tuple[Observation, dict[str, Any]]:
        self._shown = self._world.judge(self._century)
        return self._show()

    def _show(self) -> tuple[Observation, dict[str, Any]]:
        judge = self._shown
        examinee = self._world.examinee_embedding
        info = {
            "century_name": self.history.names[self._century],
            "dialogue": judge.replies,
            "dialogue_prompts": judge.prompts,
            "judge_standard_errors": judge.embedding.standard_errors.copy(),
            "examinee_standard_errors": examinee.standard_errors.copy(),
        }
        return make_observation(self._century, judge, examinee), info
