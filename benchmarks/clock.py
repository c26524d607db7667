"""How long the episodes of a run have taken, and how long they will."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from progressgym_env.benchmarks.run_folder import Cell

__all__ = ["Clock", "span"]


def span(seconds: float | None) -> str:
    """``45 s`` or ``3:05 min``; a dash for None."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02d} min"


@dataclass
class _Course:
    """An episode in time; ``seen`` is when its last step was done."""

    began: float
    seen: float
    done: int = 0
    ended: bool = False


class Clock:
    """Elapsed and remaining time of each episode and of the run, from steps done so far.

    May be asked from another thread than the one that tells it what happens.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        n_steps: int,
        workers: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock of the run.

        Args:
            cells: all episodes of the run.
            n_steps: steps an episode, at least 1.
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
            course.done, course.seen = done, self.now()

    def end(self, cell: Cell) -> None:
        """An episode ended, or came to no end: what is left of it will never be done."""
        with self._lock:
            course = self._courses[cell]
            course.done, course.seen, course.ended = self._n_steps, self.now(), True

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
            if course is None or not course.done:
                return None
            pace = (course.seen - course.began) / course.done
            since = 0.0 if course.ended else self.now() - course.seen
            return max(0.0, pace * (self._n_steps - course.done) - since)

    def left_in_all(self) -> float | None:
        """Seconds left of the run; None while no episode shows how long one takes.

        Agents differ widely (hold trains nothing), so episodes of which nothing is known count
        like the slowest of the others.
        """
        with self._lock:
            known = {cell: self.left(cell) for cell in self._courses}
            whole = [self.elapsed(cell) + left for cell, left in known.items() if left is not None]
            if not whole:
                return None
            longest = max(whole)
            ahead = []
            for cell in self._cells:
                left = known.get(cell)
                unknown = max(0.0, longest - self.elapsed(cell))
                ahead.append(unknown if left is None else left)
            return max(max(ahead), sum(ahead) / self._workers)

    def text(self, cell: Cell | None) -> str:
        """``1:05 min, 20 s left`` for an episode, or for the run; empty before it began."""
        with self._lock:
            if cell is not None and cell not in self._courses:
                return ""
            left = self.left_in_all() if cell is None else self.left(cell)
            return span(self.elapsed(cell)) + (f", {span(left)} left" if left else "")
