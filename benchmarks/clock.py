"""How long the episodes of a run have taken, and how long they will."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from progressgym_env.benchmarks.matrix import Cell

__all__ = ["Clock", "span"]


def span(seconds: float | None) -> str:
    """``45 s``, ``3:05 min`` or ``2:10 h``; a dash for None."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


@dataclass
class _Course:
    """An episode in time; ``seen`` is when its last step was done.

    ``first`` steps were done before: an episode that goes on does not tell the pace by those.
    """

    began: float
    seen: float
    done: int = 0
    first: int | None = None
    ended: bool = False

    @property
    def own(self) -> int:
        return self.done - (self.first or 0)


class Clock:
    """Elapsed and remaining time of each episode and of the run, from steps done so far.

    May be asked from another thread than the one that tells it what happens.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        n_steps: Mapping[Cell, int],
        workers: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock of the run.

        Args:
            cells: all episodes of the run.
            n_steps: steps of each, at least 1.
            workers: episodes side by side.
            now: seconds from any origin.
        """
        self.now = now
        self._cells = cells
        self._n_steps = n_steps
        self._workers = max(1, min(workers, len(cells)))
        self._began = now()
        self._courses: dict[Cell, _Course] = {}
        # Reentrant: the methods that ask use one another.
        self._lock = threading.RLock()

    def start(self, cell: Cell) -> None:
        """An episode begins."""
        with self._lock:
            now = self.now()
            self._courses[cell] = _Course(now, now)

    def step(self, cell: Cell, done: int) -> None:
        """``done`` steps of an episode are done."""
        with self._lock:
            course = self._courses[cell]
            course.first = done if course.first is None else course.first
            course.done, course.seen = done, self.now()

    def end(self, cell: Cell) -> None:
        """An episode ended, or came to no end: what is left of it will never be done."""
        with self._lock:
            course = self._courses[cell]
            course.done, course.seen, course.ended = self._n_steps[cell], self.now(), True

    def elapsed(self, cell: Cell | None = None) -> float:
        """Seconds an episode has taken so far, 0 before it began; for None, the run."""
        with self._lock:
            if cell is None:
                return self.now() - self._began
            course = self._courses.get(cell)
            if course is None:
                return 0.0
            return (course.seen if course.ended else self.now()) - course.began

    def left(self, cell: Cell) -> float | None:
        """Seconds left of an episode; None before its first step is done."""
        with self._lock:
            course = self._courses.get(cell)
            if course is None or not course.own:
                return None
            pace = (course.seen - course.began) / course.own
            since = 0.0 if course.ended else self.now() - course.seen
            return max(0.0, pace * (self._n_steps[cell] - course.done) - since)

    def left_in_all(self) -> float | None:
        """Seconds left of the run; None while no episode shows how long one takes.

        Episodes of which nothing is known count like the mean of the known ones of the same agent,
        challenge, update and start, or without the start; where there is none, like the slowest of
        all, for agents differ widely (hold trains nothing).
        """
        with self._lock:
            known = {cell: self.left(cell) for cell in self._courses}
            whole = {c: self.elapsed(c) + left for c, left in known.items() if left is not None}
            if not whole:
                return None
            means = _means(whole)
            ahead = []
            for cell in self._cells:
                left = known.get(cell)
                if left is None:
                    kinds = [kind for kind in _kinds(cell) if kind in means]
                    guess = means[kinds[0]] if kinds else max(whole.values())
                    left = max(0.0, guess - self.elapsed(cell))
                ahead.append(left)
            return max(max(ahead), sum(ahead) / self._workers)

    def text(self, cell: Cell | None) -> str:
        """``1:05 min, 20 s left`` for an episode, or for the run; empty before it began."""
        with self._lock:
            if cell is not None and cell not in self._courses:
                return ""
            left = self.left_in_all() if cell is None else self.left(cell)
            return span(self.elapsed(cell)) + (f", {span(left)} left" if left else "")


def _kinds(cell: Cell) -> tuple[tuple[str, ...], ...]:
    """What a cell has in common with others that take about as long, the closest first."""
    training = (cell.task, cell.update)
    return (*training, cell.update_from, cell.agent), (*training, cell.agent)


def _means(whole: Mapping[Cell, float]) -> dict[tuple[str, ...], float]:
    by_kind: dict[tuple[str, ...], list[float]] = {}
    for cell, seconds in whole.items():
        for kind in _kinds(cell):
            by_kind.setdefault(kind, []).append(seconds)
    return {kind: sum(times) / len(times) for kind, times in by_kind.items()}
