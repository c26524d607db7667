"""Jobs in processes: results, errors, deaths and interrupts."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from progressgym_env.benchmarks.pool import Failure, Pool
from progressgym_env.errors import InvalidArgumentError


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
    if kind == "print":
        sys.stdout.write(value)
        sys.stdout.flush()
    return value


def run(
    tasks: list[tuple[str, Any]], workers: int = 2, logs: Path | None = None
) -> tuple[dict[int, Any], dict[int, int]]:
    """Results or failures, and the process of each task."""
    results: dict[int, Any] = {}
    pids: dict[int, int] = {}

    def on_report(index: int, report: tuple[str, int]) -> None:
        pids[index] = report[1]

    pool: Pool[tuple[str, Any], Any] = Pool(job, workers=workers, threads=1, logs=logs)
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


def test_threads_are_fixed_before_torch_is_loaded():
    results, _ = run([("environ", "OMP_NUM_THREADS"), ("environ", "MKL_NUM_THREADS")])
    assert results == {0: "1", 1: "1"}


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
