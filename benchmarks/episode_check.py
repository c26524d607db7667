"""Whether one episode follows from its seed, its agent, its measurements; and playing it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from progressgym_env.agents import Agent, make_agent
from progressgym_env.agents.registry import agent_origin, check_agent
from progressgym_env.benchmarks.bench import Task
from progressgym_env.benchmarks.episodes import EpisodeRecord, action_digest
from progressgym_env.benchmarks.evidence import problem_of_arrays
from progressgym_env.benchmarks.matrix import Cell, Matrix
from progressgym_env.benchmarks.pool import Failure, Pool
from progressgym_env.benchmarks.retelling import (
    EXACT,
    ROUNDING,
    Player,
    Tolerance,
    disagreements,
    identical,
    replay,
    replay_cell,
    retell,
)
from progressgym_env.errors import ProgressGymError
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load_one
from progressgym_env.histories.simulated import SimulatedHistories

__all__ = ["EpisodeChecker", "ReplayExecutor", "Replayed", "play_again"]

_SIMULATED = Tolerance(1e-5, 1e-5, 1e-5)
"""For simulated episodes, which compute in 32 bits, on another processor or other versions."""
_MOST_NAMED = 5


class EpisodeChecker:
    """Checks one episode after another, all of one run.

    Attributes:
        notes: what could not be checked, or does no harm: agent → why.
    """

    def __init__(
        self,
        matrix: Matrix,
        history: History | SimulatedHistories,
        *,
        alike: bool,
        launched: bool = False,
        installed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Check episodes of a matrix.

        Args:
            matrix: what was played.
            history: what it was played on, loaded.
            alike: whether processor and numeric packages are those of the run.
            launched: whether training was launched in processes of its own.
            installed: agents of other packages → the package and version that was played.
        """
        self._matrix, self._history, self._alike = matrix, history, alike
        self._installed, self._launched = installed, launched
        self._n_steps: dict[tuple[Any, ...], int] = {}
        self.notes: dict[str, str] = {}

    def n_steps(self, cell: Cell) -> int:
        """Steps that an episode takes.

        Raises:
            ProgressGymError: no such episode can be played.
        """
        kind = (cell.challenge, cell.update, cell.update_from, cell.steps_ahead)
        if kind not in self._n_steps:
            self._n_steps[kind] = cell.n_steps(self._history, "cpu")
        return self._n_steps[kind]

    @cached_property
    def exact(self) -> bool:
        """Whether an episode that is played again here must come out to the last bit."""
        if isinstance(self._history, SimulatedHistories):
            return self._alike
        if self._matrix.engine != "transformers" or self._launched:
            # vLLM's numbers depend on what else is in a batch, launched ones on who adds what.
            return False
        if self._matrix.device == "cpu":
            return self._alike
        if not self._alike or self._matrix.device != "auto":
            # Which card an episode was played on is not written down.
            return False
        # Imported here: it is slow, and only this asks for it.
        import torch

        # The same build of torch here and there, and it knows of no cards.
        return torch.version.cuda is None and not torch.backends.mps.is_available()

    def problems(self, cell: Cell, record: EpisodeRecord) -> list[str]:
        """What in an episode does not agree with what, in words; without playing real models."""
        arrays = record.arrays
        assert arrays is not None
        try:
            n_pairs = len(self._history.questions.pairs)
            problem = problem_of_arrays(record, self.n_steps(cell), n_pairs)
            if problem:
                return [problem]
            found = [
                f"step {index + 1}: the action's SHA-256 is {step.action[:12]}…, and that of the "
                f"stored action {digest[:12]}…"
                for index, step in enumerate(record.steps)
                if (digest := action_digest(arrays.actions[index])) != step.action
            ]
            return found + self._retold(cell, record)
        except ProgressGymError as error:
            return [f"it does not come to its end: {error}"]

    def _retold(self, cell: Cell, record: EpisodeRecord) -> list[str]:
        agent = self._agent(cell)
        if isinstance(self._history, SimulatedHistories):
            # Nothing is trained, so that the whole episode costs no more than a look.
            player = Player(record, agent)
            again = replay(cell, player, self._history, "cpu")
            tolerance = EXACT if self.exact else _SIMULATED
            missing: list[str] = []
            objections = player.objections
        else:
            again, missing, objections = retell(cell, record, self._history, agent)
            tolerance = ROUNDING
        return [
            *missing,
            *_few(disagreements(record, again, tolerance)),
            *self._objections(cell, objections),
        ]

    def _agent(self, cell: Cell) -> Agent | None:
        try:
            check_agent(cell.agent)
            return make_agent(
                cell.agent,
                challenge=cell.challenge,
                history=load_one(self._history, cell.seed),
                steps_ahead=cell.steps_ahead,
                seed=cell.seed,
            )
        except ProgressGymError as error:
            self.notes.setdefault(
                cell.agent, f"was not asked whether it would have acted as is stored ({error})"
            )
            return None

    def _objections(self, cell: Cell, objections: Sequence[str]) -> Iterator[str]:
        if not objections:
            return
        another = agent_origin(cell.agent) != self._installed.get(cell.agent)
        if another or cell.agent.startswith("policy:"):
            # Another version is installed, or another policy may lie there.
            self.notes.setdefault(
                cell.agent, f"acts otherwise here than is stored: {objections[0]}"
            )
            return
        for words in _few(iter(objections)):
            yield f"the agent {cell.agent} would have acted otherwise, {words}"


def _few(words: Iterator[str]) -> Iterator[str]:
    """The first of many disagreements: the others mostly follow from these."""
    yield from islice(words, _MOST_NAMED)
    if more := sum(1 for _ in words):
        yield f"and {more} disagreements more"


# Replay


class ReplayExecutor(Protocol):
    """Does tasks side by side; :class:`Pool` is one."""

    def run(
        self,
        tasks: Sequence[Task],
        *,
        on_start: Callable[[int], None],
        on_report: Callable[[int, Any], None],
        on_end: Callable[[int, EpisodeRecord | Failure], None],
    ) -> None:
        """Do all ``tasks``; the callbacks are called in this process, with the task's index."""
        ...


@dataclass
class Replayed:
    """What came of playing episodes again.

    Attributes:
        cells: which.
        exact: whether they had to come out to the last bit, for all that is known to matter is
            the same here.
        tolerance: what was allowed where they had not.
        identical: how many came out to the last bit.
        within: how many came out within ``tolerance``.
        largest: the largest difference of an entry of an embedding, over all.
        problems: cell → what came out otherwise.
    """

    cells: tuple[Cell, ...]
    exact: bool
    tolerance: Tolerance
    identical: int = 0
    within: int = 0
    largest: float = 0.0
    problems: dict[Cell, list[str]] = field(default_factory=dict)


def play_again(
    records: Mapping[Cell, EpisodeRecord],
    files: Mapping[Cell, Path],
    checker: EpisodeChecker,
    matrix: Matrix,
    tolerance: Tolerance,
    executor: ReplayExecutor,
    progress: Callable[[str, int, int], None],
) -> Replayed:
    """Play the stored actions of episodes again, with real models.

    Args:
        records: of the episodes.
        files: where they lie.
        checker: that found nothing wrong in them.
        matrix: of the run.
        tolerance: what is allowed where versions, processor or device are others.
        executor: does the work.
        progress: called with ``"replaying"``, steps done, and steps in all.
    """
    cells = tuple(records)
    result = Replayed(cells, checker.exact, tolerance)
    n_steps = [checker.n_steps(cell) for cell in cells]
    done = [0] * len(cells)

    def tell(index: int, n_done: int) -> None:
        done[index] = n_done
        progress("replaying", sum(done), sum(n_steps))

    def on_end(index: int, outcome: EpisodeRecord | Failure) -> None:
        tell(index, n_steps[index])
        problems = _problems_again(records[cells[index]], outcome, result)
        if problems:
            result.problems[cells[index]] = problems

    executor.run(
        [Task.of(matrix, cell, files[cell]) for cell in cells],
        on_start=lambda index: tell(index, 0),
        on_report=lambda index, report: tell(index, int(report[1])),
        on_end=on_end,
    )
    return result


def replay_processes(workers: int, threads: int) -> ReplayExecutor:
    """Processes of this machine, each with as many threads as the run had."""
    return Pool(replay_cell, workers=workers, threads=threads)


def _problems_again(
    stored: EpisodeRecord, outcome: EpisodeRecord | Failure, result: Replayed
) -> list[str]:
    if isinstance(outcome, Failure):
        return [f"it cannot be played again: {outcome.error}: {outcome.message}"]
    if len(stored.steps) == len(outcome.steps):
        for name in ("examinee_values", "proxy_values"):
            one, other = getattr(stored, name), getattr(outcome, name)
            if one is not None and other is not None:
                result.largest = max(result.largest, float(np.abs(one - other).max()))
    if identical(stored, outcome):
        result.identical += 1
        return []
    tolerance = EXACT if result.exact else result.tolerance
    problems = [
        f"played again, {words}" for words in _few(disagreements(stored, outcome, tolerance))
    ]
    if not problems:
        result.within += 1
    return problems
