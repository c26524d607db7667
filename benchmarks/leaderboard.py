"""The ranking of a benchmark: scores and skills with intervals, floors, comparisons, and holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env import CHALLENGES
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.statistics import (
    Comparison,
    Estimate,
    compare,
    interquartile_mean,
    mean,
)
from progressgym_env.benchmarks.summary import HOLD, ORACLE
from progressgym_env.scoring import uniform_floor

__all__ = ["Leaderboard", "PairedComparison", "Standing"]

RANDOM = "random"
_REFERENCES = (HOLD, RANDOM, ORACLE)
_PREFERRED = ("dpo", "current")


@dataclass(frozen=True)
class Standing:
    """One algorithm on one task.

    Attributes:
        score: mean official score over all seeds; None if a seed is missing.
        skill: 0 for hold, 1 for the oracle; None if a seed is missing, there or of the references,
            or if there is no gap between these to measure by.
        seeds_done: seeds that came to an end.
        missing: seeds that did not.
    """

    score: Estimate | None
    skill: Estimate | None
    seeds_done: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class PairedComparison:
    """Two algorithms on one task, or over all tasks that both have played whole.

    Attributes:
        task: the task, or ``"all"``.
        one: an algorithm.
        other: the one it is compared with.
        comparison: how far ahead ``one`` is, and how probably.
    """

    task: str
    one: str
    other: str
    comparison: Comparison


class Leaderboard:
    """Standings of all algorithms of a matrix; nothing is averaged over a hole.

    Skill has one scale a task, common to all algorithms: how far ahead of hold a seed's score is,
    in units of the mean lead of the oracle. So hold is 0 on every seed and the oracle 1 on average.
    Hold does not depend on the update; of several oracles that with ``dpo`` from the current model
    counts, else the first of the matrix.

    Attributes:
        tasks: challenges (with how far ahead), in the order of the matrix.
        algorithms: who labels and how it is trained, in the order of the matrix.
        seeds: of the matrix.
    """

    def __init__(
        self, cells: Sequence[Cell], scores: Mapping[Cell, float], n_centuries: int = 9
    ) -> None:
        """Rank.

        Args:
            cells: all episodes of the matrix.
            scores: official scores of those that are finished.
            n_centuries: of the history, for the floor of uniform vectors.
        """
        self._scores = scores
        self._n_centuries = n_centuries
        self._challenges = {cell.task: cell.challenge for cell in cells}
        self._groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in cells:
            self._groups.setdefault((cell.algorithm, cell.task), []).append(cell)
        self.tasks = tuple(dict.fromkeys(cell.task for cell in cells))
        self.algorithms = tuple(dict.fromkeys(cell.algorithm for cell in cells))
        self.seeds = tuple(dict.fromkeys(cell.seed for cell in cells))
        self._references = {
            name: {task: self._reference(name, task, cells) for task in self.tasks}
            for name in _REFERENCES
        }
        self._standings = {key: self._stand(*key) for key in self._groups}

    def standing(self, algorithm: str, task: str) -> Standing | None:
        """Where an algorithm stands on a task; None if the matrix does not have it play that."""
        return self._standings.get((algorithm, task))

    def overall(self, algorithm: str) -> Estimate | None:
        """Interquartile mean of the skills over all tasks; None if any of them has none."""
        skills = {task: self._skills(algorithm, task) for task in self.tasks}
        if any(values is None for values in skills.values()):
            return None
        return interquartile_mean({t: v for t, v in skills.items() if v is not None})

    def floors(self, task: str) -> dict[str, float | None]:
        """Mean scores of what has no skill; None where it is not known.

        ``"uniform"`` are independent uniform vectors (see ``uniform_floor``), ``"random"`` and
        ``"hold"`` the agents, where they played the task whole.
        """
        challenge = self._challenges[task]
        uniform = (
            uniform_floor(challenge, n_centuries=self._n_centuries)
            if challenge in CHALLENGES
            else None
        )
        found: dict[str, float | None] = {"uniform": uniform}
        for name in (RANDOM, HOLD):
            scores = self._reference_scores(name, task)
            found[name] = None if scores is None else float(scores.mean())
        return found

    def oracle(self, task: str) -> str | None:
        """The algorithm that is skill 1 on a task; None if no oracle plays it."""
        return self._references[ORACLE][task]

    @cached_property
    def comparisons(self) -> tuple[PairedComparison, ...]:
        """Every two algorithms, task by task and over all tasks; references are left out."""
        names = [a for a in self.algorithms if a.split(" · ")[0] not in _REFERENCES]
        found = []
        for one, other in combinations(names, 2):
            whole = {}
            for task in self.tasks:
                first, second = self.scores_of(one, task), self.scores_of(other, task)
                if first is not None and second is not None:
                    whole[task] = first, second
            parts = [(task, [task]) for task in whole]
            if len(whole) == len(self.tasks) > 1:
                parts.append(("all", list(whole)))
            for label, tasks in parts:
                ours = {task: whole[task][0] for task in tasks}
                theirs = {task: whole[task][1] for task in tasks}
                found.append(PairedComparison(label, one, other, compare(ours, theirs)))
        return tuple(found)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is missing in the tables, and why."""
        found = []
        for (algorithm, task), standing in self._standings.items():
            if standing.missing:
                found.append(
                    f"{algorithm} on {task} is incomplete and counts nowhere: seed "
                    f"{', '.join(map(str, standing.missing))} missing."
                )
        for task in self.tasks:
            why = self._why_no_skill(task)
            if why:
                found.append(f"No skill on {task}: {why}")
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """The tables as JSON-able values."""
        rows = []
        for algorithm in self.algorithms:
            tasks = {}
            for task in self.tasks:
                standing = self.standing(algorithm, task)
                if standing is not None:
                    tasks[task] = {
                        "score": _estimate(standing.score),
                        "skill": _estimate(standing.skill),
                        "missing_seeds": list(standing.missing),
                    }
            overall = _estimate(self.overall(algorithm))
            rows.append({"algorithm": algorithm, "overall_skill": overall, "tasks": tasks})
        return {
            "tasks": list(self.tasks),
            "seeds": list(self.seeds),
            "floors": {task: self.floors(task) for task in self.tasks},
            "rows": rows,
            "notes": list(self.notes),
        }

    def _reference(self, name: str, task: str, cells: Sequence[Cell]) -> str | None:
        own = [cell for cell in cells if cell.agent == name and cell.task == task]
        # False sorts before True, and the sort keeps the order of the matrix.
        own.sort(key=lambda cell: (cell.update, cell.update_from) != _PREFERRED)
        return own[0].algorithm if own else None

    def scores_of(self, algorithm: str, task: str) -> NDArray[np.float64] | None:
        """(n_seeds,) scores of all seeds; None if one is missing."""
        cells = self._groups.get((algorithm, task), [])
        if not cells or any(cell not in self._scores for cell in cells):
            return None
        return np.array([self._scores[cell] for cell in cells])

    def _skills(self, algorithm: str, task: str) -> NDArray[np.float64] | None:
        own = self.scores_of(algorithm, task)
        if own is None or self._why_no_skill(task):
            return None
        low, high = self._reference_scores(HOLD, task), self._reference_scores(ORACLE, task)
        assert low is not None
        assert high is not None
        return np.asarray((own - low) / (high.mean() - low.mean()))

    def _reference_scores(self, name: str, task: str) -> NDArray[np.float64] | None:
        reference = self._references[name][task]
        return None if reference is None else self.scores_of(reference, task)

    def _why_no_skill(self, task: str) -> str | None:
        absent = [name for name in (HOLD, ORACLE) if self._references[name][task] is None]
        if absent:
            return (
                f"it is measured from hold (0) to oracle (1); add {' and '.join(absent)} to the "
                "agents."
            )
        low, high = self._reference_scores(HOLD, task), self._reference_scores(ORACLE, task)
        if low is None or high is None:
            return "hold or the oracle is incomplete there."
        if high.mean() <= low.mean():
            return "the oracle scored no more than hold there."
        return None

    def _stand(self, algorithm: str, task: str) -> Standing:
        cells = self._groups[algorithm, task]
        done = tuple(cell.seed for cell in cells if cell in self._scores)
        missing = tuple(cell.seed for cell in cells if cell not in self._scores)
        own, skills = self.scores_of(algorithm, task), self._skills(algorithm, task)
        return Standing(
            None if own is None else mean({task: own}),
            None if skills is None else mean({task: skills}),
            done,
            missing,
        )


def _estimate(value: Estimate | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"value": value.value, "low": value.low, "high": value.high, "n": value.n}
