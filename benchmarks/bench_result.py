"""What ``progressgym bench`` adds to playing a matrix: its tables, kept up to date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from progressgym_env.benchmarks.clock import span
from progressgym_env.benchmarks.leaderboard import Leaderboard
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.run_folder import RunFolder
from progressgym_env.benchmarks.statistics import Estimate
from progressgym_env.benchmarks.tables import plain_table
from progressgym_env.histories.history import History

__all__ = ["BenchHooks", "leaderboard_tables"]


class BenchHooks:
    """Keeps the summary of a benchmark. Obeys ``Hooks``."""

    def opened(self, folder: RunFolder, history: History, described: Mapping[str, Any]) -> None:
        """The folder is there."""
        self.folder, self.history = folder, history

    def ended(self, cell: Cell) -> None:
        """Nothing is kept by the episode."""

    @property
    def leaderboard(self) -> Leaderboard:
        """The ranking as it stands."""
        return Leaderboard(self.folder.cells, self.folder.scores, self.history.n_centuries)

    def summary(self, status: str) -> Mapping[str, Any]:
        """Status, tables and failures."""
        if status == "running":
            return {"status": status, "history": self.history.name}
        return {
            "status": status,
            "history": self.history.name,
            "finished": len(self.folder.scores),
            "episodes": len(self.folder.cells),
            **self.leaderboard.as_dict(),
            "failures": [
                {"cell": cell.slug, "error": failure.error, "message": failure.message}
                for cell, failure in self.folder.failures.items()
            ],
        }


def leaderboard_tables(
    leaderboard: Leaderboard, title: str, timings: Mapping[Cell, Mapping[str, Any]]
) -> list[Table]:
    """Skills first, by rank; then scores, with floors and seconds an episode."""
    ranked = sorted(leaderboard.algorithms, key=lambda name: _rank(leaderboard.overall(name)))
    tasks = leaderboard.tasks
    skills = plain_table(
        f"{title} · skill: 0 is hold, 1 the oracle, 95% intervals",
        "algorithm",
        ("overall (IQM)", *tasks),
    )
    scores = plain_table("official scores", "algorithm", (*tasks, "seconds"))
    for name in ranked:
        standings = [leaderboard.standing(name, task) for task in tasks]
        skills.add_row(
            name,
            _text(leaderboard.overall(name), 2),
            *(_text(s.skill, 2) if s else "–" for s in standings),
        )
        cells = [
            "–" if s is None else _text(s.score, 4) if not s.missing else "incomplete"
            for s in standings
        ]
        scores.add_row(name, *cells, _seconds(name, timings))
    floors = {task: leaderboard.floors(task)["uniform"] for task in tasks}
    known = ["–" if floors[task] is None else f"{floors[task]:.4f}" for task in tasks]
    scores.add_row("floor: uniform vectors", *known, "", style="dim")
    return [skills, scores]


def _rank(overall: Estimate | None) -> float:
    return float("inf") if overall is None else -overall.value


def _text(value: Estimate | None, digits: int) -> str:
    return "–" if value is None else value.text(digits)


def _seconds(algorithm: str, timings: Mapping[Cell, Mapping[str, Any]]) -> str:
    own = [timing["seconds"] for cell, timing in timings.items() if cell.algorithm == algorithm]
    return span(sum(own) / len(own)) if own else "–"
