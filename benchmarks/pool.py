"""Jobs side by side in processes of their own, with live reports, and nothing left behind.

Why not ``concurrent.futures`` or a pool library: a job must be able to report what it is doing, a
process that dies (out of memory, say) must cost its own job alone, and Ctrl-C must end every
process at once. Pools that share one queue among their workers cannot promise the second: a worker
that is killed while it holds the queue's lock takes the others down with it. Here each has its own
pipe.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Generic, TypeVar

from progressgym_env.benchmarks.machine import environment

__all__ = ["THREAD_COUNTS", "Failure", "Job", "Pool", "Report", "held_signals"]

Task = TypeVar("Task")
Result = TypeVar("Result")
Report = Any
Job = Callable[[Task, Callable[[Report], None]], Result]

_GRACE_SECONDS = 5.0
THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables by which libraries that compute are told how many threads to use."""


@dataclass(frozen=True)
class Failure:
    """Why a job came to no result.

    Attributes:
        error: name of the error's type, ``"ProcessDied"`` if the process ended without a word.
        message: the error's message.
        traceback: where it happened; empty if the process died.
        expected: whether the error is one that this package raises on purpose, whose message
            says all there is to say.
    """

    error: str
    message: str
    traceback: str
    expected: bool

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What an error says, for a process that waits elsewhere."""
        from progressgym_env.errors import ProgressGymError

        text = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, str(error), text, isinstance(error, ProgressGymError))


@dataclass(frozen=True)
class _Message:
    kind: str
    content: Any


class Pool(Generic[Task, Result]):
    """Does tasks with ``job``, ``workers`` at a time, each worker a process of its own.

    A worker does one task after another. Every worker computes with the same number of threads,
    so what a job computes does not depend on how many run beside it.
    """

    def __init__(
        self, job: Job[Task, Result], *, workers: int, threads: int, logs: Path | None = None
    ) -> None:
        """Prepare a pool; no process is started yet.

        Args:
            job: called in the worker with a task and a function that sends reports. Must be
                importable by name (defined at the top level of a module).
            workers: processes side by side, at least 1.
            threads: threads that each worker computes with, at least 1.
            logs: folder for what the workers print (``worker-1.log`` and so on; empty ones are
                removed); nowhere if None.
        """
        self._job = job
        self._workers = workers
        self._threads = threads
        self._logs = logs

    def run(
        self,
        tasks: Sequence[Task],
        *,
        on_start: Callable[[int], None] = lambda index: None,
        on_report: Callable[[int, Report], None] = lambda index, report: None,
        on_end: Callable[[int, Result | Failure], None],
    ) -> None:
        """Do all ``tasks``; the callbacks are called in this process, with the task's index.

        However this is left, on KeyboardInterrupt too, no process survives it.
        """
        waiting = deque(range(len(tasks)))
        slots: list[_Worker] = []
        try:
            for number in range(1, min(self._workers, len(tasks)) + 1):
                self._hire(number, slots)
            for worker in slots:
                self._give(worker, waiting, tasks, on_start)
            while busy := {id(w.connection): w for w in slots if w.index is not None}:
                for ready in wait([worker.connection for worker in busy.values()]):
                    worker = busy[id(ready)]
                    if self._listen(worker, on_report, on_end):
                        continue
                    if not worker.healthy and waiting:
                        worker = self._hire(worker.number, slots)
                    self._give(worker, waiting, tasks, on_start)
        finally:
            for worker in slots:
                worker.dismiss()
            for worker in slots:
                worker.end()
            self._remove_empty_logs()

    def _listen(
        self,
        worker: _Worker,
        on_report: Callable[[int, Report], None],
        on_end: Callable[[int, Result | Failure], None],
    ) -> bool:
        """Hear the worker out; whether it is still at its task."""
        index = worker.index
        if index is None:
            raise RuntimeError(f"worker {worker.number} speaks without a task")
        message = worker.receive()
        if message.kind == "report":
            on_report(index, message.content)
            return True
        worker.index = None
        if message.kind == "failed":
            # What an error leaves behind in a process is unknown; the next task gets a new one.
            worker.end()
        on_end(index, message.content)
        return False

    def _give(
        self,
        worker: _Worker,
        waiting: deque[int],
        tasks: Sequence[Task],
        on_start: Callable[[int], None],
    ) -> None:
        if waiting and worker.healthy:
            worker.index = waiting.popleft()
            on_start(worker.index)
            # A worker that is dead already says so when it is listened to.
            with suppress(BrokenPipeError):
                worker.connection.send(tasks[worker.index])

    def _hire(self, number: int, slots: list[_Worker]) -> _Worker:
        """Start a process and put it on ``slots``; nothing comes between the two."""
        log = None if self._logs is None else self._logs / f"worker-{number}.log"
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._job, self._threads, log)
        process = context.Process(target=_work, args=arguments, daemon=True)
        worker = _Worker(number, process, ours)
        # Libraries count their threads once, when they are imported, and that can be before a
        # worker's first own line: the job's module and the main script are imported before it.
        counts = dict.fromkeys(THREAD_COUNTS, str(self._threads))
        with held_signals(), _blocked_interrupt(), environment(counts):
            process.start()
            slots.append(worker)
        theirs.close()
        return worker

    def _remove_empty_logs(self) -> None:
        if self._logs is not None:
            for log in self._logs.glob("worker-*.log"):
                if log.stat().st_size == 0:
                    log.unlink()


@dataclass(eq=False)
class _Worker:
    number: int
    process: SpawnProcess
    connection: Connection
    index: int | None = None
    healthy: bool = True

    def receive(self) -> _Message:
        """The next message; a failure if the process is gone."""
        try:
            message: _Message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(_GRACE_SECONDS)
            code = self.process.exitcode
            how = "was killed" if code == -signal.SIGKILL else f"ended with exit code {code}"
            text = f"the process {how}; if memory ran out, try fewer workers"
            return _Message("failed", Failure("ProcessDied", text, "", expected=False))
        return message

    def dismiss(self) -> None:
        """Ask the process to end; an idle one ends by itself when nobody talks to it any more."""
        if self.healthy:
            self.healthy = False
            self.connection.close()
            if self.index is not None:
                self.process.terminate()

    def end(self) -> None:
        """End the process, gently first, and wait for it."""
        self.dismiss()
        for insist in (self.process.terminate, self.process.kill):
            self.process.join(_GRACE_SECONDS)
            if not self.process.is_alive():
                return
            insist()
        self.process.join()


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is left.

    Blocking them in this thread is not enough: the system hands them to another one (a display's,
    say), and Python then runs their handlers here all the same.
    """
    # Elsewhere handlers neither run nor can be changed.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    # None: set by a library in C, and out of Python's hands.
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) is not None
    }
    try:
        for number in before:
            signal.signal(number, hold)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for come in held:
            signal.raise_signal(come)


@contextmanager
def _blocked_interrupt() -> Iterator[None]:
    """Block SIGINT, so that the process started here is born with it blocked, for good.

    Ctrl-C reaches every process of the terminal; workers must leave it to the one that waits
    for them, and must not print a traceback each.
    """
    if sys.platform == "win32":
        yield
        return
    # The first process started would start it, and that unblocks SIGINT.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Reporting:
    """Sends an error of the job to the waiting process, instead of printing it here."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, BrokenPipeError):
            return False
        self._connection.send(_Message("failed", Failure.of(error)))
        return True


def _work(connection: Connection, job: Job[Any, Any], threads: int, log: Path | None) -> None:
    """What a worker process does: tasks, until there are no more or nobody listens."""
    # The default would end the process on the spot, and leave behind what libraries opened.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A main script that imports torch may have chosen a number of threads for it, too.
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
    with open(log or os.devnull, "ab", buffering=0) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    # Broken or closed: the waiting process is gone, and there is nobody left to work for.
    with suppress(BrokenPipeError, ConnectionResetError, EOFError):
        while True:
            task = connection.recv()
            with _Reporting(connection):
                result = job(task, lambda report: connection.send(_Message("report", report)))
                connection.send(_Message("done", result))
