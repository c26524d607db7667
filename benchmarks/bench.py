"""Benchmarks: every cell of a matrix, side by side, each century on disk before the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from progressgym_env.agents import make_agent
from progressgym_env.benchmarks.cell_file import CellFile
from progressgym_env.benchmarks.config import describe, differences
from progressgym_env.benchmarks.display import Display, Silence
from progressgym_env.benchmarks.machine import available_cores
from progressgym_env.benchmarks.matrix import Cell, Matrix
from progressgym_env.benchmarks.playing import play_episode
from progressgym_env.benchmarks.pool import Failure, Pool
from progressgym_env.benchmarks.run_folder import RunFolder, matrix_of, read_config
from progressgym_env.errors import InvalidArgumentError, RunFolderError
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load, load_one
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.models.engines import VllmSettings

__all__ = ["Executor", "Hooks", "Task", "default_workers", "play_cell", "play_matrix", "resumed"]

MakeDisplay = Callable[[tuple[Cell, ...], Mapping[Cell, int], int], Display]
Outcome = tuple[float, dict[str, Any]]
"""The score of an episode, and its timing."""


class Hooks(Protocol):
    """What a caller of :func:`play_matrix` adds to it."""

    def opened(self, folder: RunFolder, history: History, described: Mapping[str, Any]) -> None:
        """The folder is there, nothing is played yet."""
        ...

    def ended(self, cell: Cell) -> None:
        """An episode ended, well or not."""
        ...

    def summary(self, status: str) -> Mapping[str, Any]:
        """What goes to ``summary.json``."""
        ...


class Executor(Protocol):
    """Does tasks side by side; :class:`Pool` is one."""

    def run(
        self,
        tasks: list[Task],
        *,
        on_start: Callable[[int], None],
        on_report: Callable[[int, Any], None],
        on_end: Callable[[int, Outcome | Failure], None],
    ) -> None:
        """Do all ``tasks``; the callbacks are called in this process, with the task's index."""
        ...


@dataclass(frozen=True)
class Task:
    """An episode to be played by a worker, who needs nothing else.

    Attributes:
        cell: which one.
        file: where it is kept, on storage that all workers share.
        history: a name, or the path of a history folder.
        device: where language models run.
        engine: what measures and replies; settings of vLLM where they are of one's own.
        questions: that the history is measured with; None takes it as it is.
        launch: what training is launched with; None trains in the episode's process.
    """

    cell: Cell
    file: Path
    history: str
    device: str
    engine: str | VllmSettings = "transformers"
    questions: str | None = None
    launch: str | None = None

    @classmethod
    def of(cls, matrix: Matrix, cell: Cell, file: Path) -> Self:
        """The task of playing a cell of ``matrix``."""
        return cls(
            cell,
            file,
            matrix.history,
            matrix.device,
            matrix.engine_settings,
            matrix.questions,
            matrix.launch,
        )

    def load(self) -> History | SimulatedHistories:
        """The history it is played on."""
        return load(self.history, self.questions)


def default_workers(n_tasks: int, threads: int, *, alone: bool = False) -> int:
    """Processes side by side: as many as there are cores for, and episodes to play.

    One where each takes a device for itself (``alone``): a full model, or a vLLM, in every process
    fits on no GPU.
    """
    if alone:
        return 1
    return max(1, min(n_tasks, available_cores() // threads))


def play_cell(task: Task, report: Callable[[Any], None]) -> Outcome:
    """Play one episode to its end, from where its file leaves off; runs in a worker.

    Returns:
        The score, and ``{"seconds": ..., "phases": {...}}`` of this worker's part of it.
    """
    cell, clock = task.cell, _PhaseClock(report)
    file = CellFile(task.file)
    source = task.load()
    env = cell.make_env(source, task.device, task.engine, task.launch)
    try:
        agent = make_agent(
            cell.agent,
            challenge=cell.challenge,
            history=load_one(source, cell.seed),
            steps_ahead=cell.steps_ahead,
            seed=cell.seed,
        )
        record = play_episode(
            env,
            agent,
            cell.seed,
            agent_name=cell.agent,
            on_step=lambda done, n_steps, century: report(("step", done, n_steps, century)),
            on_phase=clock.begin,
            journal=file,
        )
        file.finish(record)
    finally:
        env.close()
    assert record.score is not None
    return record.score, clock.timing()


def resumed(path: Path) -> Matrix:
    """The matrix that the run in ``path`` was playing.

    Raises:
        RunFolderError: ``path`` is no run folder.
    """
    return matrix_of(read_config(path))


def play_matrix(
    matrix: Matrix,
    hooks: Hooks,
    *,
    make_folder: Callable[[], Path] | None = None,
    resume: Path | None = None,
    workers: int | None = None,
    display: MakeDisplay = lambda *_: Silence(),
    executor: Callable[[int, Path], Executor] | None = None,
) -> RunFolder:
    """Play all episodes of ``matrix`` that are not done yet, and keep the run folder.

    An episode that fails is written down with its error, and the others go on. On
    KeyboardInterrupt all processes end, what is finished stays in the folder, and
    ``summary.json`` says ``"interrupted"``; on any other error ``"failed"``, as it does where an
    episode failed.

    Args:
        matrix: what to play.
        hooks: what to do besides.
        make_folder: makes the folder of a new run; called once all arguments are checked, so that
            a mistake leaves no folder behind.
        resume: in its place, the folder of a run to go on with; failed episodes are tried again.
        workers: processes side by side, at least 1; see ``default_workers``.
        display: makes the display, from the open episodes, their steps, and ``workers``.
        executor: makes what does the work, from ``workers`` and the folder for logs; processes of
            this machine by default.

    Raises:
        ProgressGymError: an argument is wrong; nothing was played or written.
        RunFolderError: the folder to resume is damaged, in use, or of another configuration; or
            the run could not be written down any more.
        KeyboardInterrupt: after tidying up.
    """
    if workers is not None and workers < 1:
        raise InvalidArgumentError(f"workers={workers} must be 1 or more")
    # Of simulated histories, that of the first seed stands for all in pictures and tables.
    source = load(matrix.history, matrix.questions)
    history = load_one(source, matrix.seeds[0])
    n_steps = _check(matrix, source, history)
    described = describe(matrix, history)
    if resume is not None:
        _check_unchanged(resume, described)
        folder = RunFolder(resume, matrix.cells)
    else:
        assert make_folder is not None
        folder = RunFolder.new(make_folder(), matrix.cells, described)
    with folder.locked():
        if resume is not None:
            folder = RunFolder.old(resume, matrix.cells)
        hooks.opened(folder, history, described)
        cells = folder.open_cells
        launched = matrix.launch is not None
        alone = matrix.engine != "transformers" or launched or history.of_full_models
        side_by_side = workers or default_workers(len(cells), matrix.threads, alone=alone)
        make = executor or _processes(matrix.threads)
        with _Conclusion(folder, hooks):
            folder.write_summary(hooks.summary("running"))
            if cells:
                steps = {cell: n_steps[cell] for cell in cells}
                with display(cells, steps, side_by_side) as shown:
                    _Playing(matrix, folder, hooks, shown).run(make(side_by_side, folder.path))
    return folder


def _processes(threads: int) -> Callable[[int, Path], Executor]:
    return lambda workers, logs: Pool(play_cell, workers=workers, threads=threads, logs=logs)


class _Playing:
    """Keeps folder and display up to date while the work is done."""

    def __init__(self, matrix: Matrix, folder: RunFolder, hooks: Hooks, display: Display) -> None:
        self._cells = folder.open_cells
        self._matrix, self._folder, self._hooks, self._display = matrix, folder, hooks, display

    def run(self, executor: Executor) -> None:
        matrix, file_of = self._matrix, self._folder.file_of
        executor.run(
            [Task.of(matrix, cell, file_of(cell)) for cell in self._cells],
            on_start=lambda index: self._display.start(self._cells[index]),
            on_report=self._on_report,
            on_end=self._on_end,
        )

    def _on_report(self, index: int, report: tuple[Any, ...]) -> None:
        kind, *content = report
        show = self._display.step if kind == "step" else self._display.phase
        show(self._cells[index], *content)

    def _on_end(self, index: int, outcome: Outcome | Failure) -> None:
        cell = self._cells[index]
        if isinstance(outcome, Failure):
            if outcome.error == RunFolderError.__name__:
                # What cannot be written down need not be played: all others would fail alike.
                raise RunFolderError(outcome.message)
            self._folder.add_failure(cell, outcome)
            self._display.fail(cell, f"{outcome.error}: {outcome.message}")
        else:
            score, timing = outcome
            self._folder.add(cell, score, timing)
            self._display.finish(cell, score, timing["seconds"])
        self._hooks.ended(cell)


class _Conclusion:
    """Writes lists and summary when the playing ends, however it ends."""

    def __init__(self, folder: RunFolder, hooks: Hooks) -> None:
        self._folder, self._hooks = folder, hooks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        status = "complete" if error is None and not self._folder.failures else "failed"
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        try:
            self._folder.list_all()
            self._folder.write_summary(self._hooks.summary(status))
        finally:
            if error is not None:
                # What went wrong first is the one to tell, even if the writing fails after it.
                raise error


@dataclass
class _PhaseClock:
    """Seconds by phase of work, and the news of each phase."""

    report: Callable[[Any], None]
    seconds: dict[str, float] = field(default_factory=dict)
    phase: str = "loading"
    began: float = field(default_factory=time.perf_counter)

    def begin(self, phase: str) -> None:
        self._end()
        self.phase = phase
        if phase not in ("acting", "recording"):
            self.report(("phase", phase))

    def timing(self) -> dict[str, Any]:
        self._end()
        phases = {name: round(seconds, 3) for name, seconds in self.seconds.items()}
        return {"seconds": round(sum(self.seconds.values()), 3), "phases": phases}

    def _end(self) -> None:
        now = time.perf_counter()
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self.began
        self.began = now


def _check_unchanged(path: Path, now: Mapping[str, Any]) -> None:
    changed = differences(read_config(path), now)
    if changed:
        again = (
            "; its training was launched, and a command is never taken from a folder: give --launch"
            if "arguments.launched: True → None" in changed
            else ""
        )
        raise RunFolderError(
            f"{path} was begun with another configuration, and results of both would not belong "
            f"together{again}; make these the same, or start a new run:\n  " + "\n  ".join(changed)
        )


def _check(
    matrix: Matrix, source: History | SimulatedHistories, history: History
) -> dict[Cell, int]:
    """Let environments and agents check the rest of the arguments; steps of every episode."""
    n_steps: dict[Cell, int] = {}
    known: dict[tuple[Any, ...], int] = {}
    for cell in matrix.cells:
        kind = (cell.challenge, cell.update, cell.update_from, cell.steps_ahead)
        if kind not in known:
            known[kind] = cell.n_steps(source, matrix.device)
        n_steps[cell] = known[kind]
    for who in dict.fromkeys((c.agent, c.challenge, c.steps_ahead) for c in matrix.cells):
        name, challenge, ahead = who
        make_agent(name, challenge=challenge, history=history, steps_ahead=ahead)
    if matrix.device not in ("auto", "cpu"):
        # Imported here: it loads torch, and only these devices can be missing.
        from progressgym_env.models.language import resolve_device

        resolve_device(matrix.device)
    return n_steps
