"""Algorithms of a report: how each is drawn, and what is known of it, task by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from progressgym_env.benchmarks.breakdown import by_century, by_dimension, targets_of
from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.benchmarks.leaderboard import Leaderboard
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.run_data import RunData
from progressgym_env.benchmarks.summary import HOLD, ORACLE
from progressgym_env.envs.registry import kind_of
from progressgym_env.values.embedding import FloatArray

__all__ = ["Group", "Report", "Series"]

REFERENCES = (HOLD, "random", ORACLE)
N_COLOURS, N_DASHES = 8, 6
# With more lines than this in a panel, only the best are shown at first.
_MOST_LINES = 8


@dataclass(frozen=True)
class Series:
    """An algorithm and its look: a colour and a dash, so that no two look the same.

    Attributes:
        index: its place in the matrix.
        name: who labels and how it is trained.
        reference: whether it is one to measure by (hold, random, oracle), drawn in grey.
        colour: 0 to 7; of a reference 0.
        dash: 0 (none) to 5.
        shown: whether its lines are shown at first.
    """

    index: int
    name: str
    reference: bool
    colour: int
    dash: int
    shown: bool


@dataclass(frozen=True, eq=False)
class Group:
    """The finished episodes of an algorithm on a task.

    Attributes:
        series: the algorithm.
        task: the task.
        episodes: at least one, by seed.
        n_seeds: how many there were to be.
        distances: (n_steps, 19) mean of |value − target|, see ``by_dimension``; None where the
            targets are not known.
        by_century: (n_steps,) mean of what every step paid, see ``by_century``; in Coevolve
            scaled to the worth of a state, the first one averaged with the start.
    """

    series: Series
    task: str
    episodes: tuple[EpisodeRecord, ...]
    n_seeds: int
    distances: FloatArray | None
    by_century: FloatArray

    @property
    def seeds_text(self) -> str:
        """``5 seeds``, or ``3 of 5 seeds``."""
        done = len(self.episodes)
        part = f"{done} of " if done < self.n_seeds else ""
        return f"{part}{self.n_seeds} seed" + ("" if self.n_seeds == 1 else "s")


class Report:
    """All that a report shows, computed once."""

    def __init__(self, data: RunData) -> None:
        """Of a run."""
        self.data = data
        n_centuries = len(data.centuries) or 9
        self.board = Leaderboard(data.cells, data.scores, n_centuries)

    @cached_property
    def ranked(self) -> tuple[str, ...]:
        """Algorithms, best first: by overall skill, else by the first column that has numbers."""
        board = self.board
        columns = [{a: board.overall(a) for a in board.algorithms}]
        for task in board.tasks:
            standings = {a: board.standing(a, task) for a in board.algorithms}
            columns.append({a: s.skill if s else None for a, s in standings.items()})
            columns.append({a: s.score if s else None for a, s in standings.items()})

        def key(name: str) -> tuple[float, ...]:
            values = [column[name] for column in columns]
            return tuple(float("inf") if v is None else -v.value for v in values)

        return tuple(sorted(board.algorithms, key=key))

    @cached_property
    def series(self) -> dict[str, Series]:
        """The look of every algorithm."""
        agents = {cell.algorithm: cell.agent for cell in self.data.cells}
        few = len(self.board.algorithms) <= _MOST_LINES
        own = [name for name in self.ranked if agents[name] not in REFERENCES]
        shown = {*own[: _MOST_LINES - 2]} | {
            n for n in (self.board.oracle(task) for task in self.board.tasks) if n is not None
        }
        found, counts = {}, {True: 0, False: 0}
        for index, name in enumerate(self.board.algorithms):
            reference = agents[name] in REFERENCES
            turn, colour = divmod(counts[reference], N_COLOURS)
            if reference:
                # Grey lines differ by their dash alone; a solid one is the truth.
                turn, colour = 1 + counts[reference] % (N_DASHES - 1), 0
            counts[reference] += 1
            found[name] = Series(
                index, name, reference, colour, turn % N_DASHES, few or name in shown
            )
        return found

    @cached_property
    def groups(self) -> dict[str, tuple[Group, ...]]:
        """Task → its algorithms with a finished episode, in the order of the matrix."""
        found: dict[str, list[Group]] = {task: [] for task in self.board.tasks}
        for name in self.board.algorithms:
            for task in self.board.tasks:
                cells = [c for c in self.data.cells if (c.algorithm, c.task) == (name, task)]
                done = [c for c in cells if c in self.data.episodes]
                if done:
                    found[task].append(self._group(name, task, done, len(cells)))
        return {task: tuple(groups) for task, groups in found.items()}

    def trajectories(self, group: Group) -> tuple[EpisodeRecord, ...]:
        """Episodes whose values belong in one picture: of one history, so perhaps of one seed."""
        if self.one_history:
            return group.episodes
        first = self.data.matrix.seeds[0]
        return tuple(episode for episode in group.episodes if episode.seed == first)

    @property
    def one_history(self) -> bool:
        """Whether all seeds played the same history."""
        if self.data.histories:
            return self.data.one_history
        # Without the histories at hand, their name has to tell.
        return not self.data.matrix.history.startswith("simulated")

    def _group(self, name: str, task: str, done: Sequence[Cell], n_seeds: int) -> Group:
        episodes = tuple(self.data.episodes[cell] for cell in done)
        paid = by_century(episodes)
        if kind_of(done[0].challenge) == "coevolve":
            n_steps = len(paid)
            # A state of n + 1 each; the first step pays for two.
            paid = paid * ((n_steps + 1) / n_steps)
            paid[0] /= 2
        return Group(
            self.series[name], task, episodes, n_seeds, self._distances(done, episodes), paid
        )

    def _distances(
        self, done: Sequence[Cell], episodes: Sequence[EpisodeRecord]
    ) -> FloatArray | None:
        rows = []
        for cell, episode in zip(done, episodes, strict=True):
            history = self.data.histories.get(cell.seed)
            if history is None:
                return None
            targets = targets_of(cell.challenge, cell.steps_ahead, history.values)
            if targets is None or len(targets) != len(episode.steps):
                return None
            rows.append(by_dimension([episode], targets))
        return np.asarray(np.mean(rows, axis=0))
