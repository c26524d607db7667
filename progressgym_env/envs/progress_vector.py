"""The frame of a vector environment: many simulated episodes, with NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, create_empty_array
from numpy.typing import NDArray

from progressgym_env.arguments import check_choice, check_integer
from progressgym_env.envs.arguments import check_actions, refuse_unknown_arguments
from progressgym_env.envs.simulated_batch import Rows, SimulatedBatch, at, blocks
from progressgym_env.envs.spaces import MAX_DIALOGUE_SAMPLES, action_space, observation_space
from progressgym_env.envs.vector_arguments import (
    autoreset_mode_of,
    batchable,
    masked,
    refuse_rendering,
    row_seeds,
)
from progressgym_env.envs.worlds import Influence
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.models.devices import check_device_name
from progressgym_env.models.engines import VllmSettings, check_engine
from progressgym_env.models.launched import check_launch
from progressgym_env.scoring import unit
from progressgym_env.values.choosing import Questions
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.questions import QuestionSet

__all__ = ["ProgressVectorEnv"]

Infos = dict[str, Any]
Batch = dict[str, NDArray[Any]]


class ProgressVectorEnv(gym.vector.VectorEnv[Batch, NDArray[Any], NDArray[Any]]):
    """``num_envs`` simulated episodes of one challenge, stepped together.

    Row i does what the single environment does after ``reset(seed=seed + i)``: the two share their
    arithmetic. Observations are those of the single environment, batched. ``infos`` hold what costs
    no text: ``n_examples``, and at the end of an episode ``score``; what the judge says is in the
    observation.

    Args:
        num_envs: N, 1 or more.
        history: ``"simulated"``, ``"simulated-train"``, ``"simulated-test"``,
            ``"simulated-embedded"`` or a ``SimulatedHistories``.
        questions: None, or the very set of the history, as single environments take it.
        update: ``"sft"``, ``"dpo"`` or ``"rlhf"``.
        update_from: ``"current"`` or ``"initial"``.
        dialogue_samples: replies shown, 1 to 16.
        render_mode: None; a single environment renders.
        device: for the interface, and checked; the simulation runs on the CPU.
        engine: likewise; it has no language models.
        launch: likewise.
        autoreset_mode: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"`` (or Gymnasium's
            ``AutoresetMode``): what happens to an episode that has ended.
        copy: whether every observation is a copy. False hands out the environment's own arrays,
            which the next step overwrites: faster, for whoever copies before stepping on.

    Raises:
        InvalidArgumentError: an argument is out of range, or the history cannot be batched.
        UnknownNameError: an argument, history or update does not exist.
        HistoryError: the history answers other questions than those asked for.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  # Gymnasium declares it so
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    challenge: ClassVar[str]

    def __init__(
        self,
        num_envs: int = 1,
        history: str | Path | History | SimulatedHistories = "embedded",
        *,
        questions: Questions | None = None,
        update: str = "dpo",
        update_from: str = "current",
        dialogue_samples: int = 4,
        render_mode: str | None = None,
        device: str = "auto",
        engine: str | VllmSettings = "transformers",
        launch: str | Sequence[str] | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        **unknown: object,
    ) -> None:
        refuse_unknown_arguments(type(self), unknown)
        self.num_envs = check_integer("num_envs", num_envs, 1)
        refuse_rendering(render_mode)
        self.render_mode = None
        check_device_name(device)
        check_engine(engine)
        check_launch(launch)
        if not isinstance(copy, bool):
            raise InvalidArgumentError(f"copy={copy!r} must be True or False, for no copies")
        self.copy = copy
        self._mode = autoreset_mode_of(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self._mode}
        histories = batchable(history, questions)
        initial = check_choice("update_from", update_from, ("current", "initial")) == "initial"
        samples = check_integer("dialogue_samples", dialogue_samples, 1, MAX_DIALOGUE_SAMPLES)
        self.questions: QuestionSet = histories.questions
        self.n_centuries: int = histories.n_centuries
        self._batch = SimulatedBatch(
            histories,
            self.num_envs,
            update=update,
            from_initial=initial,
            n_samples=samples,
            influence=self._influence,
        )
        n, n_pairs = self.num_envs, len(self.questions.pairs)
        self.single_observation_space = observation_space(self.n_centuries, n_pairs, samples)
        self.single_action_space = action_space(n_pairs)
        self.observation_space = batch_space(self.single_observation_space, n)
        self.action_space = batch_space(self.single_action_space, n)
        self._observation = cast(Batch, create_empty_array(self.single_observation_space, n))
        self._rngs: list[np.random.Generator] = []
        self._seeds: list[int] = []
        # A reset that fails midway leaves no episodes to go on with.
        self._started = False
        self._units = np.zeros((n, self.n_centuries, self._batch.values.shape[-1]))
        # SAME_STEP: the observations with which episodes last ended, as a batch.
        self.final_observation: Batch | None = None
        self._century = np.zeros(n, dtype=np.intp)
        self._returns = np.zeros(n)
        # Which rows have no episode to go on with.
        self._ended = np.ones(n, dtype=bool)

    @property
    def n_steps(self) -> int:
        """Steps an episode takes."""
        return self.n_centuries - 1

    @property
    def values(self) -> FloatArray:
        """(N, T, 19) float64, the embeddings of every row's centuries (a copy): the truth that
        scores are made of, for oracles and analyses. No observation holds it.
        """
        return self._batch.values.copy()

    @property
    def history_seeds(self) -> NDArray[np.int64]:
        """(N,) the numbers that name the rows' histories (a copy)."""
        return self._batch.history_seeds.copy()

    @property  # type: ignore[misc]  # no setter, as in SyncVectorEnv
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The rows' generators, as ``SyncVectorEnv`` has them."""
        self._seed_rows([None] * self.num_envs, ())
        return tuple(self._rngs)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What the rows' generators were last seeded with, as ``SyncVectorEnv`` has it."""
        self._seed_rows([None] * self.num_envs, ())
        return tuple(self._seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Batch, Infos]:
        """Start all episodes, or those of ``options["reset_mask"]``; refusing leaves all as it was.

        Args:
            seed: row i gets ``seed + i``, or ``seed[i]``; None continues the present generators.
            options: ``"history_seed"``, one for all rows or one a row; ``"family"``;
                ``"reset_mask"``, (N,) bool.

        Raises:
            InvalidArgumentError: seeds or options of another number or kind.
            UnknownNameError: another option.
            ResetNeeded: a mask leaves out rows that have no episode yet.
        """
        given = dict(options or {})
        rows = masked(given.pop("reset_mask", None), self.num_envs)
        if len(rows) < self.num_envs and not self._started:
            raise ResetNeeded("there are no episodes yet; reset all rows before resetting some")
        self._batch.checked(given)
        seeds = row_seeds(seed, self.num_envs)
        self._started = False
        self._seed_rows(seeds, rows.tolist())
        self._begin(rows, given)
        self._started = True
        return self._handed_out(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Batch, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Step every row.

        Args:
            actions: (N, n_pairs) in [-1, 1].

        Returns:
            Observations; (N,) rewards, float64; (N,) terminations and truncations (none); infos.

        Raises:
            InvalidActionError: naming the first bad row and entry; nothing was done.
            ResetNeeded: before the first reset; with autoreset disabled, after an episode's end.
        """
        proposals = check_actions(actions, (self.num_envs, len(self.questions.pairs)))
        n = self.num_envs
        if not self._started:
            raise ResetNeeded("there are no episodes yet; call reset() before step()")
        if self._mode == AutoresetMode.DISABLED and self._ended.any():
            raise ResetNeeded(
                f"the episodes of rows {np.flatnonzero(self._ended).tolist()} have ended; reset "
                "them with options={'reset_mask': mask} before step()"
            )
        running = np.flatnonzero(~self._ended)
        rewards, n_examples = np.zeros(n), np.zeros(n, dtype=np.int64)
        for rows in blocks(running, n):
            n_examples[rows] = self._advance(rows, proposals, rewards)
        self._returns += rewards
        terminated = np.zeros(n, dtype=bool)
        terminated[running] = self._batch.n_done[running] == self.n_steps
        infos: Infos = {}
        if len(running):
            infos = {"n_examples": n_examples, "_n_examples": ~self._ended}
        if len(running) < n:
            self._begin(np.flatnonzero(self._ended), {})
        self._ended = terminated.copy()
        if terminated.any():
            self._tell_ends(terminated, infos)
        return self._handed_out(), rewards, terminated, np.zeros(n, dtype=bool), infos

    def hold_rewards(self) -> FloatArray:
        """(N, n_steps), what the present episodes would pay if nothing were ever proposed.

        Chance included: the same noise meets the proxies. No state is changed.
        """
        batch, everyone = self._batch, np.arange(self.num_envs)
        names = ("proxy", "examinee", "proxy_values", "examinee_values", "n_done")
        kept = {name: getattr(batch, name).copy() for name in names}
        paid = np.empty((self.num_envs, self.n_steps))
        batch.n_done[:] = 0
        batch.proxy[:] = batch.examinee[:] = batch.logits[:, 0]
        batch.proxy_values[:] = batch.examinee_values[:] = batch.values[:, 0]
        for step in range(self.n_steps):
            for rows in blocks(everyone, self.num_envs):
                century = np.full(self.num_envs, step + 1)[rows]
                batch.influenced(rows, century)
                paid[rows, step] = self._paid(rows, batch.examinee_values[rows], century)
            batch.n_done += 1
        for name, array in kept.items():
            getattr(batch, name)[:] = array
        return paid

    @property
    def _influence(self) -> Influence | None:
        return None

    def _paid(self, rows: Rows, examinee: FloatArray, century: NDArray[np.intp]) -> FloatArray:
        """(rows,), what a step pays, given the examinee's embedding after it."""
        raise NotImplementedError

    def _advance(self, rows: Rows, proposals: NDArray[Any], rewards: FloatArray) -> NDArray[Any]:
        batch, century = self._batch, self._century[rows]
        n_examples = batch.train(rows, proposals[rows])
        batch.influenced(rows, century)
        rewards[rows] = self._paid(rows, batch.examinee_values[rows], century)
        batch.n_done[rows] += 1
        self._century[rows] = np.minimum(century + 1, self.n_centuries - 1)
        self._observe(rows)
        return n_examples

    def _observe(self, rows: Rows) -> None:
        batch, out, century = self._batch, self._observation, self._century[rows]
        judge = batch.judge_logits(rows, century)
        if batch.influence is None:
            values = at(batch.values[rows], century)
        else:
            values = batch.proxy_values[rows]
        out["century"][rows] = century
        out["judge_values"][rows] = values
        out["examinee_values"][rows] = batch.examinee_values[rows]
        if isinstance(rows, slice):
            preferences, dialogue = out["preferences"][rows], out["dialogue"][rows]
        else:
            preferences = np.empty_like(out["preferences"][rows])
            dialogue = np.empty_like(out["dialogue"][rows])
        asked, taken = batch.elicited(rows, judge, values, preferences)
        batch.encoded(asked, taken, dialogue)
        if not isinstance(rows, slice):
            out["preferences"][rows], out["dialogue"][rows] = preferences, dialogue

    def _begin(self, rows: NDArray[np.intp], options: Mapping[str, Any]) -> None:
        self._batch.begin(rows.tolist(), self._rngs, options)
        self._century[rows] = 1
        self._returns[rows] = 0.0
        self._ended[rows] = False
        for block in blocks(rows, self.num_envs):
            self._units[block] = unit(self._batch.values[block])
            self._observe(block)

    def _tell_ends(self, terminated: NDArray[np.bool_], infos: Infos) -> None:
        ends: Infos = {"score": np.where(terminated, self._returns, 0.0), "_score": terminated}
        if self._mode != AutoresetMode.SAME_STEP:
            infos.update(ends)
            return
        # As Gymnasium batches them: the last observations of the old episodes, and their infos.
        self.final_observation = {key: array.copy() for key, array in self._observation.items()}
        infos["final_obs"] = _apart(self.final_observation, terminated)
        infos["_final_obs"] = terminated
        infos["final_info"] = {
            **ends,
            "n_examples": np.where(terminated, infos["n_examples"], 0),
            "_n_examples": terminated,
        }
        infos["_final_info"] = terminated
        told = infos.pop("_n_examples") & ~terminated
        if told.any():
            infos["n_examples"], infos["_n_examples"] = infos["n_examples"] * told, told
        else:
            del infos["n_examples"]
        self._begin(np.flatnonzero(terminated), {})

    def _handed_out(self) -> Batch:
        if not self.copy:
            return self._observation
        return {key: array.copy() for key, array in self._observation.items()}

    def _seed_rows(self, seeds: Sequence[int | None], rows: Sequence[int]) -> None:
        """Seed the generators of ``rows``, or make those of all."""
        if not self._rngs:
            made = [seeding.np_random(seed) for seed in seeds]
            self._rngs, self._seeds = [rng for rng, _ in made], [known for _, known in made]
            return
        for row in rows:
            if seeds[row] is not None:
                self._rngs[row], self._seeds[row] = seeding.np_random(seeds[row])


def _apart(batch: Batch, mask: NDArray[np.bool_]) -> NDArray[Any]:
    """(N,) of object: the observations of the rows in ``mask``, each a dictionary; else None."""
    apart = np.full(len(mask), None, dtype=object)
    rows = np.flatnonzero(mask)
    columns = [array if len(rows) == len(mask) else array[rows] for array in batch.values()]
    apart[rows] = [dict(zip(batch, row, strict=True)) for row in zip(*columns, strict=True)]
    return apart
