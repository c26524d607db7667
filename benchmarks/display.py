"""What a run shows while it goes on: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from progressgym_env.benchmarks.clock import Clock, span
from progressgym_env.benchmarks.matrix import Cell, labels

__all__ = ["Bars", "Display", "Lines", "Silence", "display_for", "stage_progress"]

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
    console: Console,
    cells: Sequence[Cell],
    n_steps: Mapping[Cell, int],
    workers: int,
    *,
    quiet: bool,
    now: Callable[[], float] = time.monotonic,
) -> Display:
    """The display that fits ``console``: bars, plain lines, or nothing where ``quiet``.

    Args:
        console: where to show it.
        cells: all episodes of the run.
        n_steps: steps of each.
        workers: episodes side by side.
        quiet: show nothing.
        now: seconds from any origin.
    """
    if quiet:
        return Silence()
    clock = Clock(cells, n_steps, workers, now)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bars(console, cells, n_steps, clock)
    return Lines(console, cells, clock)


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
    """Plain lines without control codes, for files, pipes and build logs.

    One a step, with where it is and how long the run will take, and one for each kind of work in
    it: work that comes twice in a step, such as measuring, is named the first time.
    """

    def __init__(self, console: Console, cells: Sequence[Cell], clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._names = labels(cells)
        self._centuries: dict[Cell, str] = {}
        self._named: dict[Cell, set[str]] = {}

    def start(self, cell: Cell) -> None:
        """Say so."""
        self._clock.start(cell)
        self._say(cell, "starts")

    def step(self, cell: Cell, done: int, n_steps: int, century: str) -> None:
        """Say where it is, and how long the run will take."""
        self._clock.step(cell, done)
        self._centuries[cell] = century
        self._named[cell] = set()
        left = self._clock.left_in_all()
        ahead = "" if left is None else f", about {span(left)} left in all"
        self._say(cell, f"{century}, {done} of {n_steps} steps done{ahead}")

    def phase(self, cell: Cell, phase: str) -> None:
        """Say what is being done, once a step."""
        named = self._named.setdefault(cell, set())
        if phase not in named:
            named.add(phase)
            century = self._centuries.get(cell)
            self._say(cell, phase if century is None else f"{century}, {phase}")

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


class _TimeColumn(ProgressColumn):
    """Elapsed and remaining time, asked for whenever the bars are drawn, message or no message."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        return Text(self._clock.text(task.fields["cell"]), style="dim")


class Bars:
    """A bar an episode, and one for the whole run."""

    def __init__(
        self, console: Console, cells: Sequence[Cell], n_steps: Mapping[Cell, int], clock: Clock
    ) -> None:
        self._clock = clock
        self._names = labels(cells)
        # With many episodes only those that run have a bar; the others count in the last line.
        self._all_shown = len(cells) <= _MOST_BARS
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>3.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[doing]}", style="cyan"),
            _TimeColumn(clock),
            console=console,
            refresh_per_second=4,
            get_time=clock.now,
        )
        self._tasks: dict[Cell, TaskID] = {
            cell: self._progress.add_task(
                self._names[cell], total=n_steps[cell], doing="waiting", cell=cell,
                visible=self._all_shown,
            )
            for cell in cells
        }  # fmt: skip
        self._n_steps = n_steps
        self._centuries: dict[Cell, str] = {}
        self._whole = self._progress.add_task(
            "[bold]all", total=sum(n_steps[cell] for cell in cells), doing="", cell=None
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
        self._update(cell, completed=done, doing=century)

    def phase(self, cell: Cell, phase: str) -> None:
        """Say what is being done."""
        self._update(cell, doing=f"{self._centuries.get(cell, '')} {phase}".strip())

    def finish(self, cell: Cell, score: float, seconds: float) -> None:
        """Fill the bar."""
        text = f"score {score:.4f}"
        self._end(cell, text)
        if not self._all_shown:
            line = f"{self._names[cell]}: {text} in {span(seconds)}"
            self._progress.console.print(line, markup=False, highlight=False)

    def fail(self, cell: Cell, error: str) -> None:
        """Say that it failed, in red; the bar is filled, for nothing is left to do."""
        self._end(cell, "[red]failed")
        line = f"{self._names[cell]} failed: {error}"
        self._progress.console.print(line, style="red", markup=False, highlight=False)

    def _end(self, cell: Cell, doing: str) -> None:
        self._clock.end(cell)
        self._update(cell, completed=self._n_steps[cell], doing=doing, visible=self._all_shown)

    def _update(
        self,
        cell: Cell,
        *,
        doing: str,
        completed: int | None = None,
        visible: bool | None = None,
    ) -> None:
        own = self._tasks[cell]
        self._progress.update(own, doing=doing, completed=completed, visible=visible)
        done = sum(task.completed for task in self._progress.tasks if task.id != self._whole)
        self._progress.update(self._whole, completed=done)


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
