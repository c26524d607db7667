"""What a run shows while it goes on: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from progressgym_env.benchmarks.run_folder import Cell

__all__ = ["Bars", "Display", "Lines", "Silence", "display_for", "span", "stage_progress"]

_MOST_BARS = 12


class Display(Protocol):
    """Is told what happens in a run; used as a context manager."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        """End, and leave the terminal as it was."""
        ...

    def start(self, cell: Cell) -> None:
        """An episode is given to a process."""
        ...

    def step(self, cell: Cell, done: int, n_steps: int, century: str) -> None:
        """``done`` steps of ``n_steps`` are done; the next is in ``century``."""
        ...

    def phase(self, cell: Cell, phase: str) -> None:
        """A part of a step begins: eliciting, training, influencing or measuring."""
        ...

    def finish(self, cell: Cell, score: float, seconds: float) -> None:
        """An episode ended."""
        ...

    def fail(self, cell: Cell, error: str) -> None:
        """An episode came to no end."""
        ...


def display_for(
    console: Console, cells: Sequence[Cell], n_steps: int, workers: int, *, quiet: bool
) -> Display:
    """The display that fits ``console``: bars, plain lines, or nothing where ``quiet``."""
    if quiet:
        return Silence()
    clock = _Clock(cells, n_steps, workers)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bars(console, cells, n_steps, clock)
    return Lines(console, cells, clock)


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


class _Clock:
    """Elapsed and remaining time of each episode and of the run, from steps done so far."""

    def __init__(self, cells: Sequence[Cell], n_steps: int, workers: int) -> None:
        self._cells = cells
        self._n_steps = n_steps
        self._workers = max(1, min(workers, len(cells)))
        self._began = time.monotonic()
        self._courses: dict[Cell, _Course] = {}

    def start(self, cell: Cell) -> None:
        now = time.monotonic()
        self._courses[cell] = _Course(now, now)

    def step(self, cell: Cell, done: int) -> None:
        course = self._courses[cell]
        course.done, course.seen = done, time.monotonic()

    def end(self, cell: Cell) -> None:
        course = self._courses[cell]
        # Also where it failed: what is left of it will never be done.
        course.done, course.seen, course.ended = self._n_steps, time.monotonic(), True

    def elapsed(self, cell: Cell | None = None) -> float:
        if cell is None:
            return time.monotonic() - self._began
        course = self._courses[cell]
        return (course.seen if course.ended else time.monotonic()) - course.began

    def left(self, cell: Cell) -> float | None:
        """Seconds left of an episode; None before its first step is done."""
        course = self._courses[cell]
        if not course.done:
            return None
        pace = (course.seen - course.began) / course.done
        since = 0.0 if course.ended else time.monotonic() - course.seen
        return max(0.0, pace * (self._n_steps - course.done) - since)

    def left_in_all(self) -> float | None:
        """Seconds left of the run; None while no episode shows how long one takes.

        Agents differ widely (hold trains nothing), so episodes of which nothing is known count
        like the slowest of the others.
        """
        known = {cell: self.left(cell) for cell in self._courses}
        whole = [self.elapsed(cell) + left for cell, left in known.items() if left is not None]
        if not whole:
            return None
        longest = max(whole)
        ahead = []
        for cell in self._cells:
            left = known.get(cell)
            spent = self.elapsed(cell) if cell in self._courses else 0.0
            ahead.append(max(0.0, longest - spent) if left is None else left)
        return max(max(ahead), sum(ahead) / self._workers)


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        """Nothing to end."""

    def start(self, cell: Cell) -> None:
        """Show nothing."""

    def step(self, cell: Cell, done: int, n_steps: int, century: str) -> None:
        """Show nothing."""

    def phase(self, cell: Cell, phase: str) -> None:
        """Show nothing."""

    def finish(self, cell: Cell, score: float, seconds: float) -> None:
        """Show nothing."""

    def fail(self, cell: Cell, error: str) -> None:
        """Show nothing."""


class Lines(Silence):
    """A plain line a step, without control codes: for files, pipes and build logs."""

    def __init__(self, console: Console, cells: Sequence[Cell], clock: _Clock) -> None:
        self._console = console
        self._clock = clock
        self._names = _labels(cells)

    def start(self, cell: Cell) -> None:
        """Say so."""
        self._clock.start(cell)
        self._say(cell, "starts")

    def step(self, cell: Cell, done: int, n_steps: int, century: str) -> None:
        """Say where it is, and how long it will take."""
        self._clock.step(cell, done)
        left = self._clock.left_in_all()
        ahead = "" if left is None else f", about {span(left)} left in all"
        self._say(cell, f"century {century}, step {done + 1} of {n_steps}{ahead}")

    def finish(self, cell: Cell, score: float, seconds: float) -> None:
        """Say the score."""
        self._clock.end(cell)
        self._say(cell, f"score {score:.4f} in {span(seconds)}")

    def fail(self, cell: Cell, error: str) -> None:
        """Say what went wrong."""
        self._clock.end(cell)
        self._say(cell, f"failed: {error}")

    def _say(self, cell: Cell, text: str) -> None:
        line = f"[{span(self._clock.elapsed()):>9}] {self._names[cell]}: {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bars:
    """A bar an episode, and one for the whole run."""

    def __init__(
        self, console: Console, cells: Sequence[Cell], n_steps: int, clock: _Clock
    ) -> None:
        self._clock = clock
        self._names = _labels(cells)
        # With many episodes only those that run have a bar; the others count in the last line.
        self._all_shown = len(cells) <= _MOST_BARS
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>3.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[doing]}", style="cyan"),
            TextColumn("{task.fields[clock]}", style="dim"),
            console=console,
            refresh_per_second=4,
            get_time=time.monotonic,
        )
        self._tasks: dict[Cell, TaskID] = {
            cell: self._progress.add_task(
                self._names[cell], total=n_steps, doing="waiting", clock="",
                visible=self._all_shown,
            )
            for cell in cells
        }  # fmt: skip
        self._n_steps = n_steps
        self._centuries: dict[Cell, str] = {}
        self._whole = self._progress.add_task(
            "[bold]all", total=n_steps * len(cells), doing="", clock=""
        )

    def __enter__(self) -> Self:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        """Leave the bars as they last were, and the cursor below."""
        self._progress.stop()

    def start(self, cell: Cell) -> None:
        """Wake the bar."""
        self._clock.start(cell)
        self._update(cell, doing="loading", visible=True)

    def step(self, cell: Cell, done: int, n_steps: int, century: str) -> None:
        """Move the bar."""
        self._clock.step(cell, done)
        self._centuries[cell] = century
        self._update(cell, completed=done, doing=f"{century} eliciting")

    def phase(self, cell: Cell, phase: str) -> None:
        """Say what is being done."""
        self._update(cell, doing=f"{self._centuries.get(cell, '')} {phase}".strip())

    def finish(self, cell: Cell, score: float, seconds: float) -> None:
        """Fill the bar."""
        self._clock.end(cell)
        text = f"score {score:.4f}"
        self._update(cell, completed=self._n_steps, doing=text, visible=self._all_shown)
        if not self._all_shown:
            self._progress.console.print(f"{self._names[cell]}: {text} in {span(seconds)}")

    def fail(self, cell: Cell, error: str) -> None:
        """Say that it failed, in red."""
        self._clock.end(cell)
        self._update(cell, doing="[red]failed", visible=self._all_shown)
        self._progress.console.print(
            f"{self._names[cell]} failed: {error}", style="red", markup=False
        )

    def _update(
        self,
        cell: Cell,
        *,
        doing: str,
        completed: int | None = None,
        visible: bool | None = None,
    ) -> None:
        self._progress.update(
            self._tasks[cell], doing=doing, completed=completed, visible=visible,
            clock=self._time(cell),
        )  # fmt: skip
        done = sum(self._progress.tasks[task].completed for task in self._tasks.values())
        self._progress.update(self._whole, completed=done, clock=self._time(None))

    def _time(self, cell: Cell | None) -> str:
        left = self._clock.left_in_all() if cell is None else self._clock.left(cell)
        ahead = f", {span(left)} left" if left else ""
        return f"{span(self._clock.elapsed(cell))}{ahead}"


@contextmanager
def stage_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Lend a function to be told (stage, done, total); shows a bar a stage, or plain lines."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield _StageLines(console).tell
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell


class _StageLines:
    """A line whenever a tenth of a stage is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}
        self._said: dict[str, int] = {}

    def tell(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        began = self._began.setdefault(stage, now)
        tenth = 10 * done // max(total, 1)
        if self._said.get(stage) == tenth:
            return
        self._said[stage] = tenth
        left = f", {span((now - began) * (total - done) / done)} left" if 0 < done < total else ""
        line = f"{stage}: {done} of {total}{left}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _labels(cells: Sequence[Cell]) -> dict[Cell, str]:
    several = len({seed for _, seed in cells}) > 1
    return {(agent, seed): f"{agent} seed {seed}" if several else agent for agent, seed in cells}
