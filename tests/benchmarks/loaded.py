"""The command in processes that need not load anything, to be started and killed many times.

Each is a fork of a server that has imported everything, and its workers are forks of it. The rest
is the command's own: its processes, pipes, locks and files.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from progressgym_env.benchmarks.machine import environment
from progressgym_env.benchmarks.pool import THREAD_COUNTS
from progressgym_env.cli import main

LOADED = ["progressgym_env.cli", "progressgym_env.benchmarks.bench_result"]
LOADED += ["progressgym_env.models.training", "transformers.models.llama.modeling_llama"]


@contextmanager
def server() -> Iterator[None]:
    """Has what :class:`Command` is forked from; it computes with one thread."""
    multiprocessing.set_forkserver_preload(LOADED)
    with environment(dict.fromkeys(THREAD_COUNTS, "1")):
        forkserver.ensure_running()
    try:
        yield
    finally:
        # Else it would end with the process of the tests.
        forkserver._forkserver._stop()


class Command:
    """A run of ``progressgym`` that leads a process group of its own; as a ``Popen`` of it."""

    def __init__(self, *arguments: str, said: Path) -> None:
        """Start it; what it says goes to the file ``said``."""
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(arguments, said, theirs))
        self._process.start()
        theirs.close()
        ours.recv()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> None:
        self._process.join()


def _run(arguments: tuple[str, ...], said: Path, started: Connection) -> None:
    os.setsid()
    started.send(os.getpid())
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    multiprocessing.get_context = lambda method: _Forks()  # type: ignore[assignment]
    sys.argv[1:] = arguments
    main()


class _Forks:
    """As the context ``spawn``, as far as a pool needs it: nobody but the pool has its ends."""

    def __init__(self) -> None:
        self._context = multiprocessing.context.ForkContext()
        self.Process = self._context.Process

    def Pipe(self) -> tuple[Any, Any]:
        ours, theirs = self._context.Pipe()
        os.register_at_fork(after_in_child=ours.close)
        return ours, theirs
