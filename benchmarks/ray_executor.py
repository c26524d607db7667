"""The episodes of a matrix on a Ray cluster, which may be many machines, and may lose some."""

from __future__ import annotations

import glob
import os
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from progressgym_env.benchmarks.bench import Outcome, Task
from progressgym_env.benchmarks.config import differences
from progressgym_env.benchmarks.machine import available_cores
from progressgym_env.benchmarks.pool import THREAD_COUNTS, Failure, Job, held_signals
from progressgym_env.benchmarks.ray_cluster import check_address, joined, require_ray
from progressgym_env.benchmarks.ray_worker import Greeting, RayWorker, play_or_read, software
from progressgym_env.errors import InvalidArgumentError, ProgressGymError, RunFolderError
from progressgym_env.files import write_text
from progressgym_env.histories.loading import is_named
from progressgym_env.values.questions import QUESTION_SETS

__all__ = ["RayExecutor"]

_GRACE_SECONDS = 5.0
# How long nothing is looked at but messages.
_LOOK_SECONDS = 1.0
# Workers that wait for room on the cluster; more would only make its list longer.
_MOST_STARTING = 64
_MOST_STILLBORN = 3


class RayExecutor:
    """Does tasks on a Ray cluster. Obeys ``Executor``.

    Every worker is an actor: a process that plays one episode after another, and that has the
    cores (and GPUs) of one for itself. When it dies, or its machine is lost, its episode is given
    to another, which goes on from the last century that was written down. That is done here and
    not by Ray's own ``max_retries``: Ray counts tries, and cannot see that a try got further; and
    it tries one that runs out of memory for ever.
    """

    def __init__(
        self,
        workers: int | None,
        threads: int,
        logs: Path | None,
        *,
        address: str | None = None,
        gpus: float = 0.0,
        restarts: int = 3,
        job: Job[Task, Outcome] = play_or_read,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            workers: episodes side by side; None for as many as the cluster takes.
            threads: threads, and so cores of the cluster, for each.
            logs: folder for what the workers print (``worker-1.log`` and so on; empty ones are
                removed); Ray's own files if None. As the files of the episodes, on storage that
                all machines share.
            address: of the cluster, ``"auto"`` for the one that this machine belongs to. None for
                that of the environment variable ``RAY_ADDRESS``; where there is none, and for
                ``"local"``, one is started on this machine, and ended with the run.
            gpus: GPUs of the cluster for each episode, all of one machine; parts of one are
                shared. With 0, workers see all GPUs of their machine and none is kept for them.
            restarts: how often in succession an episode's process may die without having got a
                century further, before the episode counts as failed.
            job: what to do with a task; importable by name on every machine.

        Raises:
            InvalidArgumentError: a number is out of range, or the address is none.
            MissingPackageError: Ray is not installed.
        """
        for name, value, least in (
            ("workers", 1 if workers is None else workers, 1),
            ("threads", threads, 1),
            ("gpus", gpus, 0),
            ("restarts", restarts, 0),
        ):
            if not value >= least:
                raise InvalidArgumentError(f"{name}={value} must be {least} or more")
        check_address(address)
        require_ray()
        self._workers = workers
        self._threads = threads
        self._logs = None if logs is None else logs.absolute()
        self._address = address
        self._gpus = gpus
        self._restarts = restarts
        self._job = job

    def run(
        self,
        tasks: list[Task],
        *,
        on_start: Callable[[int], None] = lambda index: None,
        on_report: Callable[[int, Any], None] = lambda index, report: None,
        on_end: Callable[[int, Outcome | Failure], None],
    ) -> None:
        """Do all ``tasks``; the callbacks are called in this process, with the task's index.

        However this is left, on KeyboardInterrupt too, no worker survives it, and no process of
        a cluster that was started here; one that was joined goes on.

        Raises:
            InvalidArgumentError: there is no such cluster, or no machine of it is large enough.
            RunFolderError: a machine does not see the run folder.
            ProgressGymError: this package is missing on a machine, or others are of other
                versions there; or workers die before they begin.
        """
        if not tasks:
            return
        n_cpus = max(available_cores(), self._threads * (self._workers or 1))
        with _token(tasks[0].file.parent.absolute()) as token, joined(self._address, n_cpus) as ray:
            self._check_room(ray)
            staff = _Staff(ray, self._options(), token, self._logs)
            work = _Work([_absolute(task) for task in tasks], on_start, on_report, on_end)
            try:
                self._work(work, staff)
            finally:
                with held_signals():
                    staff.dismiss_all()
                    self._remove_empty_logs()

    def _work(self, work: _Work, staff: _Staff) -> None:
        limit = len(work.tasks) if self._workers is None else self._workers
        while work.waiting or staff.busy:
            staff.hire(len(work.waiting), limit)
            for worker in staff.with_news():
                message = staff.hear(worker)
                if isinstance(message, Greeting):
                    _check_greeting(message, self._logs or work.tasks[0].file.parent)
                    staff.give(worker, work, self._job)
                elif worker.index is None:
                    continue
                elif message is None:
                    work.lost(worker.index, self._restarts, staff.cause)
                elif work.take_in(worker.index, *message):
                    worker.index = None
                    if message[0] == "failed":
                        # What an error leaves behind in a process is unknown.
                        staff.dismiss(worker)
                    else:
                        staff.give(worker, work, self._job)

    def _options(self) -> dict[str, Any]:
        # Libraries count their threads when they are imported. Ray would set one of the three.
        counts = dict.fromkeys(THREAD_COUNTS, str(self._threads))
        shown = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        return {
            "num_cpus": self._threads,
            "num_gpus": self._gpus,
            "max_restarts": 0,
            "runtime_env": {"env_vars": {**counts, **shown}},
        }

    def _check_room(self, ray: Any) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for name, kind, needed in (("threads", "CPU", self._threads), ("gpus", "GPU", self._gpus)):
            most = max((node.get(kind, 0) for node in nodes), default=0)
            if needed > most:
                raise InvalidArgumentError(
                    f"{name}={needed}: no machine of the Ray cluster has so many {kind}s, the "
                    f"largest has {most:g}; ask for no more, or add a machine that has them first"
                )

    def _remove_empty_logs(self) -> None:
        if self._logs is not None:
            for log in self._logs.glob("worker-*.log"):
                if log.stat().st_size == 0:
                    log.unlink()


@dataclass(eq=False)
class _Worker:
    """An actor, and what it is waited for: its greeting first, then its stream of messages."""

    number: int
    actor: Any
    awaited: Any
    greeted: bool = False
    index: int | None = None


class _Staff:
    """The workers."""

    def __init__(self, ray: Any, options: dict[str, Any], token: Path, logs: Path | None) -> None:
        self._ray = ray
        self._class = ray.remote(RayWorker).options(**options)
        self._token = token
        self._logs = logs
        self._workers: list[_Worker] = []
        # Deaths in succession before anything was done, and why the last one was.
        self._stillborn = 0
        self.cause = ""

    @property
    def busy(self) -> bool:
        """Whether anybody is at a task."""
        return any(worker.index is not None for worker in self._workers)

    def hire(self, n_waiting: int, limit: int) -> None:
        """Have as many in waiting as there is work for."""
        starting = [worker for worker in self._workers if not worker.greeted]
        for worker in starting[n_waiting:]:
            self.dismiss(worker)
        room = min(limit - len(self._workers), min(n_waiting, _MOST_STARTING) - len(starting))
        taken = {worker.number for worker in self._workers}
        free = [number for number in range(1, limit + 1) if number not in taken]
        for number in free[: max(room, 0)]:
            actor = self._class.remote()
            greeting = actor.greet.remote(self._token, os.getcwd(), self._log(number))
            self._workers.append(_Worker(number, actor, greeting))

    def with_news(self) -> list[_Worker]:
        """Those who have something to say, after a while if nobody has."""
        of = {worker.awaited: worker for worker in self._workers}
        ready, _ = self._ray.wait(list(of), timeout=_LOOK_SECONDS)
        if ready:
            # The first alone would let one who talks much keep the others waiting.
            ready, _ = self._ray.wait(list(of), num_returns=len(of), timeout=0)
        return [of[awaited] for awaited in ready]

    def hear(self, worker: _Worker) -> Any:
        """What the worker says: its greeting, a message, or None if it is dead."""
        errors = self._ray.exceptions
        try:
            if worker.greeted:
                return self._ray.get(next(worker.awaited))
            greeting = self._ray.get(worker.awaited)
        except (
            errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError,
            errors.OutOfMemoryError, errors.RuntimeEnvSetupError, StopIteration,
        ) as error:  # fmt: skip
            self._bury(worker, error)
            return None
        worker.greeted = True
        self._stillborn = 0
        return greeting

    def give(self, worker: _Worker, work: _Work, job: Job[Task, Outcome]) -> None:
        """Give the worker the next task; let go who is not needed any more."""
        if not work.waiting:
            self.dismiss(worker)
            return
        worker.index = work.waiting.popleft()
        play = worker.actor.play.options(num_returns="streaming")
        worker.awaited = play.remote(job, work.tasks[worker.index])

    def dismiss(self, worker: _Worker) -> None:
        """End the worker's process."""
        self._ray.kill(worker.actor)
        self._workers.remove(worker)

    def dismiss_all(self) -> None:
        """End all processes, and wait for it a little."""
        awaited = [worker.awaited for worker in self._workers]
        for worker in list(self._workers):
            self.dismiss(worker)
        if awaited:
            self._ray.wait(awaited, num_returns=len(awaited), timeout=_GRACE_SECONDS)

    def _bury(self, worker: _Worker, error: BaseException) -> None:
        self.dismiss(worker)
        self.cause = _cause(error)
        if (log := self._log(worker.number)) is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"progressgym: this process died. {self.cause}\n")
        if worker.index is not None:
            return
        if "failed to import" in str(error):
            raise ProgressGymError(
                f"a Ray worker cannot load progressgym_env ({self.cause}); install it on every "
                "machine of the cluster, for the Python that `ray start` runs with there"
            )
        self._stillborn += 1
        if self._stillborn > _MOST_STILLBORN:
            raise ProgressGymError(
                f"Ray workers die before they begin, {self._stillborn} in succession "
                f"({self.cause}); if memory runs out, try fewer workers, and see Ray's own logs"
            )

    def _log(self, number: int) -> Path | None:
        return None if self._logs is None else self._logs / f"worker-{number}.log"


class _Work:
    """The tasks, and what is told of them."""

    def __init__(
        self,
        tasks: Sequence[Task],
        on_start: Callable[[int], None],
        on_report: Callable[[int, Any], None],
        on_end: Callable[[int, Outcome | Failure], None],
    ) -> None:
        self.tasks = tasks
        self.waiting = deque(range(len(tasks)))
        self._on_start, self._on_report, self._on_end = on_start, on_report, on_end
        self._started: set[int] = set()
        self._deaths: Counter[int] = Counter()
        # When the file of a task that lost its worker was last written.
        self._written: dict[int, int | None] = {}

    def take_in(self, index: int, kind: str, content: Any) -> bool:
        """Pass a worker's message on; whether it was the last one."""
        if kind == "start":
            self._start(index)
        elif kind == "report":
            self._on_report(index, content)
        else:
            self._on_end(index, content)
        return kind in ("done", "failed")

    def lost(self, index: int, restarts: int, cause: str) -> None:
        """Have the task of a worker that died done by another, or give it up."""
        file = self.tasks[index].file
        for half_written in file.parent.glob(f".{glob.escape(file.stem)}-*.tmp*"):
            half_written.unlink(missing_ok=True)
        written = file.stat().st_mtime_ns if file.is_file() else None
        if written != self._written.get(index):
            self._written[index] = written
            del self._deaths[index]
        self._deaths[index] += 1
        if self._deaths[index] <= restarts:
            self.waiting.appendleft(index)
            return
        self._start(index)
        times = f"{restarts + 1} times in succession without getting further" if restarts else ""
        text = f"the process died {times} ({cause}); if memory ran out, try fewer workers"
        self._on_end(index, Failure("ProcessDied", text, "", expected=False))

    def _start(self, index: int) -> None:
        if index not in self._started:
            self._started.add(index)
            self._on_start(index)


def _cause(error: BaseException) -> str:
    """The last line of an error of Ray's, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(" Some common causes")[0][:400] if lines else type(error).__name__


def _check_greeting(greeting: Greeting, folder: Path) -> None:
    if not greeting.sees:
        raise RunFolderError(
            f"{folder}: the machine {greeting.node} of the Ray cluster does not see this folder; "
            "give one on storage that all its machines share, under the same path"
        )
    changed = differences(software(), greeting.software)
    if changed:
        raise ProgressGymError(
            f"the machine {greeting.node} of the Ray cluster has other software than this one, and "
            "results of both would not belong together; install the same there:\n  "
            + "\n  ".join(changed)
        )


def _absolute(task: Task) -> Task:
    """The same task, wherever its worker is."""
    history = task.history if is_named(task.history) else str(Path(task.history).absolute())
    questions = task.questions
    if questions is not None and questions not in QUESTION_SETS:
        questions = str(Path(questions).absolute())
    return replace(task, file=task.file.absolute(), history=history, questions=questions)


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """Lend a file in ``folder``, by which others can tell that it is this one."""
    token = folder / f".seen-{secrets.token_hex(8)}.tmp"
    write_text(token, "seen\n")
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)
