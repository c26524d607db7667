"""Jobs in processes: results, errors, deaths and interrupts."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil
import pytest

from progressgym_env.benchmarks.pool import Failure, Pool
from progressgym_env.errors import InvalidArgumentError

ROOT = Path(__file__).parents[2]
# What libraries would see that are imported with this module.
AT_IMPORT = os.environ.get("OMP_NUM_THREADS")


def job(task: tuple[str, Any], report: Callable[[Any], None]) -> Any:
    """What the workers do in these tests."""
    kind, value = task
    report(("pid", os.getpid()))
    if kind == "raise":
        raise InvalidArgumentError(value)
    if kind == "bug":
        return 1 / value
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        sys.exit(value)
    if kind == "sleep":
        time.sleep(value)
    if kind == "environ":
        return os.environ[value]
    if kind == "at import":
        return AT_IMPORT
    if kind == "torch threads":
        return sys.modules["torch"].get_num_threads()
    if kind == "interrupt blocked":
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    if kind == "print":
        sys.stdout.write(value)
        sys.stdout.flush()
    return value


def run(
    tasks: list[tuple[str, Any]], workers: int = 2, logs: Path | None = None, threads: int = 1
) -> tuple[dict[int, Any], dict[int, int]]:
    """Results or failures, and the process of each task."""
    results: dict[int, Any] = {}
    pids: dict[int, int] = {}

    def on_report(index: int, report: tuple[str, int]) -> None:
        pids[index] = report[1]

    pool: Pool[tuple[str, Any], Any] = Pool(job, workers=workers, threads=threads, logs=logs)
    pool.run(tasks, on_report=on_report, on_end=results.__setitem__)
    return results, pids


def test_every_task_is_done_side_by_side_in_processes_of_their_own():
    results, pids = run([("return", n) for n in range(5)])
    assert results == {n: n for n in range(5)}
    assert os.getpid() not in pids.values()
    assert 1 <= len(set(pids.values())) <= 2
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


def test_an_error_costs_its_own_task_and_comes_with_its_traceback():
    results, pids = run([("raise", "no such thing"), ("bug", 0), ("return", 3)], workers=1)
    assert results[2] == 3
    mistake, bug = results[0], results[1]
    assert isinstance(mistake, Failure)
    assert (mistake.error, mistake.message) == ("InvalidArgumentError", "no such thing")
    assert mistake.expected
    assert isinstance(bug, Failure)
    assert bug.error == "ZeroDivisionError"
    assert not bug.expected
    assert "return 1 / value" in bug.traceback
    assert len(set(pids.values())) == 3, "after an error the process is replaced"


@pytest.mark.parametrize(
    ("kind", "value", "says"), [("die", 0, "was killed"), ("exit", 7, "exit code 7")]
)
def test_a_process_that_dies_costs_its_own_task(kind: str, value: int, says: str):
    results, _ = run([(kind, value), ("return", 1), ("return", 2)], workers=1)
    assert (results[1], results[2]) == (1, 2)
    assert results[0].error == "ProcessDied"
    assert says in results[0].message


def test_threads_are_fixed_before_anything_is_imported():
    before = dict(os.environ)
    tasks = [("environ", "OMP_NUM_THREADS"), ("environ", "MKL_NUM_THREADS"), ("at import", 0)]
    results, _ = run(tasks, threads=3)
    assert results == {0: "3", 1: "3", 2: "3"}
    assert dict(os.environ) == before, "the environment here is as it was"


def script(tmp_path: Path, code: str) -> str:
    """What a user's main script prints."""
    (tmp_path / "main.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_threads_hold_also_where_the_main_script_imports_torch(tmp_path: Path):
    code = (
        "import torch\n"
        "torch.set_num_threads(5)\n"
        "from tests.benchmarks.test_pool import run\n"
        "if __name__ == '__main__':\n"
        "    print(run([('torch threads', 0)], threads=3)[0], torch.get_num_threads())\n"
    )
    assert script(tmp_path, code) == "{0: 3} 5\n"


def test_the_very_first_worker_is_born_deaf_to_interrupts(tmp_path: Path):
    """In a new process: multiprocessing's own helper, started first, opens its ears again."""
    code = (
        "from tests.benchmarks.test_pool import run\n"
        "if __name__ == '__main__':\n"
        "    print(run([('interrupt blocked', 0)] * 2, workers=1)[0])\n"
    )
    assert script(tmp_path, code) == "{0: True, 1: True}\n"


def test_what_workers_print_goes_to_a_log_and_empty_logs_are_removed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    run([("print", "a warning of some library\n")], workers=1, logs=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "worker-1.log").read_text() == "a warning of some library\n"
    (quiet := tmp_path / "quiet").mkdir()
    run([("return", 1)], workers=1, logs=quiet)
    assert not list(quiet.iterdir())


def test_an_interrupt_ends_all_processes_at_once():
    pids: list[int] = []

    def on_report(index: int, report: tuple[str, int]) -> None:
        pids.append(report[1])
        if len(pids) == 2:
            raise KeyboardInterrupt

    pool: Pool[tuple[str, Any], Any] = Pool(job, workers=2, threads=1)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pool.run([("sleep", 60)] * 4, on_report=on_report, on_end=lambda index, result: None)
    assert time.monotonic() - began < 30
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_workers_ignore_an_interrupt_of_the_whole_terminal():
    interrupted = []

    def on_report(index: int, report: tuple[str, int]) -> None:
        os.kill(report[1], signal.SIGINT)
        interrupted.append(report[1])

    results: dict[int, Any] = {}
    pool: Pool[tuple[str, Any], Any] = Pool(job, workers=1, threads=1)
    pool.run([("sleep", 0.3), ("return", 5)], on_report=on_report, on_end=results.__setitem__)
    assert len(interrupted) == 2
    assert results == {0: 0.3, 1: 5}


class Terminated(KeyboardInterrupt):
    """What the command line makes of SIGTERM."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("others", [0, 1])
def test_a_signal_while_a_process_starts_leaves_no_process(
    number: signal.Signals, others: int, monkeypatch: pytest.MonkeyPatch
):
    """The system may hand the signal to another thread, such as that of a progress display."""
    pids: list[int] = []
    start = SpawnProcess.start

    def interrupted_start(process: SpawnProcess) -> None:
        start(process)
        if process.pid is not None:
            pids.append(process.pid)
        os.kill(os.getpid(), number)
        time.sleep(0.1)

    def terminate(received: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    monkeypatch.setattr(SpawnProcess, "start", interrupted_start)
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(others)]
    before = signal.signal(signal.SIGTERM, terminate)
    pool: Pool[tuple[str, Any], Any] = Pool(job, workers=2, threads=1)
    try:
        for thread in threads:
            thread.start()
        with pytest.raises(KeyboardInterrupt):
            pool.run([("sleep", 60)] * 2, on_end=lambda index, result: None)
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    finally:
        done.set()
        signal.signal(signal.SIGTERM, before)
    assert handlers == (signal.default_int_handler, terminate), "both are as they were"
    assert len(pids) == 1
    assert not psutil.pid_exists(pids[0])


def test_a_pool_works_in_a_thread_too():
    results: dict[int, Any] = {}
    thread = threading.Thread(target=lambda: results.update(run([("return", 4)])[0]))
    thread.start()
    thread.join(60)
    assert results == {0: 4}
