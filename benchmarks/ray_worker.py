"""What a process of a Ray cluster does: it says who it is, then plays one episode after another."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from progressgym_env import __version__
from progressgym_env.benchmarks.bench import Outcome, Task, play_cell
from progressgym_env.benchmarks.cell_file import read_score
from progressgym_env.benchmarks.pool import Failure

__all__ = ["Greeting", "Message", "RayWorker", "play_or_read", "software"]

# Storage that is shared over a network may show a new file a little later elsewhere.
_SEEN_SECONDS = 5.0

Message = tuple[str, Any]
"""``("start", None)``, ``("report", ...)``, and last ``("done", ...)`` or ``("failed", ...)``."""


@dataclass(frozen=True)
class Greeting:
    """What a worker says of itself before it is given anything to do.

    Attributes:
        node: name of its machine.
        sees: whether it sees the run folder.
        software: see :func:`software`.
    """

    node: str
    sees: bool
    software: dict[str, Any]


class RayWorker:
    """An actor that plays; one process of a Ray cluster, with the threads of one episode."""

    def greet(self, token: Path, folder: str, log: Path | None) -> Greeting:
        """Settle down, and say where.

        Args:
            token: a file in the run folder, for a folder of that name may be another's.
            folder: where the run was started; relative paths are meant from there.
            log: where what is printed goes; Ray's own files if None.
        """
        sees = _seen(token)
        with suppress(OSError):
            os.chdir(folder)
        # If nothing can be written there, the episode's file will say so.
        if sees and log is not None:
            with suppress(OSError), open(log, "ab", buffering=0) as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
        return Greeting(platform.node(), sees, software())

    def play(self, job: Callable[[Task, Callable[[Any], None]], Any], task: Task) -> Iterator[Any]:
        """Do ``task``; yields every :data:`Message` as it comes.

        Reports and ending come in one stream that Ray carries straight to who asked. A queue in a
        process of its own would die with its machine, and take along what nobody had read yet.
        """
        yield ("start", None)
        messages: SimpleQueue[Message] = SimpleQueue()
        # The stream is fed from here, so the job, which calls back instead, gets a thread.
        threading.Thread(target=_do, args=(job, task, messages.put), daemon=True).start()
        kind = ""
        while kind not in ("done", "failed"):
            kind, content = messages.get()
            yield (kind, content)


def play_or_read(task: Task, report: Callable[[Any], None]) -> Outcome:
    """Play one episode to its end, or read its score where that was reached before.

    A worker may be lost after it wrote down the whole episode, and before it could say so.
    """
    score = read_score(task.file) if task.file.is_file() else None
    return play_cell(task, report) if score is None else (score, {"seconds": 0.0, "phases": {}})


def software() -> dict[str, Any]:
    """What results depend on, as in ``config.json``: this package and all that is installed."""
    versions = {found.name: found.version for found in metadata.distributions()}
    return {"package_version": __version__, "versions": versions}


def _seen(token: Path) -> bool:
    until = time.monotonic() + _SEEN_SECONDS
    while not token.is_file():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _do(
    job: Callable[[Task, Callable[[Any], None]], Any], task: Task, send: Callable[[Message], None]
) -> None:
    with _Failing(send):
        send(("done", job(task, lambda report: send(("report", report)))))


class _Failing:
    """Sends what goes wrong instead of printing it here; nothing may keep an ending back."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> bool:
        if error is None:
            return False
        self._send(("failed", Failure.of(error)))
        return True
