"""Cells on a real Ray, of this machine alone: the same bytes, and nothing lost with a worker."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from progressgym_env.benchmarks import ray_executor
from progressgym_env.benchmarks.bench import Outcome, Task, play_matrix
from progressgym_env.benchmarks.display import Silence
from progressgym_env.benchmarks.matrix import Block, Cell, Matrix
from progressgym_env.benchmarks.pool import Failure
from progressgym_env.benchmarks.ray_cluster import _join, joined
from progressgym_env.benchmarks.ray_executor import RayExecutor
from progressgym_env.benchmarks.ray_worker import play_or_read, software
from progressgym_env.benchmarks.run_folder import RunFolder
from progressgym_env.errors import (
    InvalidArgumentError,
    MissingPackageError,
    ProgressGymError,
    RunFolderError,
)
from progressgym_env.files import new_folder
from tests.benchmarks.damaged import damaged_history

ROOT = Path(__file__).parents[2]
HOLD = Cell("predict", "sft", "current", 6, "hold", 0)
LIFELONG = replace(HOLD, agent="lifelong")
THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# What libraries would see that are imported with this module.
AT_IMPORT = os.environ.get("OMP_NUM_THREADS")


def job(task: Task, report: Callable[[Any], None]) -> Any:
    """What the workers do in some of these tests; the history, last of its path, says what."""
    word = Path(task.history).name
    report(("pid", os.getpid()))
    if word == "raise":
        raise InvalidArgumentError("no such thing")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "sleep":
        time.sleep(60)
    if word == "print":
        sys.stdout.write("a warning of some library\n")
        sys.stdout.flush()
    if word == "threads":
        return [AT_IMPORT, *(os.environ[name] for name in THREAD_COUNTS)]
    return task.cell.seed


def play_and_say_where(task: Task, report: Callable[[Any], None]) -> Outcome:
    report(("phase", f"pid {os.getpid()}"))
    return play_or_read(task, report)


def play_and_die_once(task: Task, report: Callable[[Any], None]) -> Outcome:
    outcome = play_or_read(task, report)
    died = task.file.with_suffix(".died")
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return outcome


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray that most tests here share; its address."""
    with joined("local", 2) as ray:
        yield ray.get_runtime_context().gcs_address


@pytest.fixture
def on_ray(cluster: str, tmp_path: Path) -> Callable[..., tuple[list[Any], list[int]]]:
    """Does what the words say; results or failures, and the processes that were at it."""

    def run(*words: str, workers: int | None = 1, **more: Any) -> tuple[list[Any], list[int]]:
        results: dict[int, Any] = {}
        pids: list[int] = []
        started: list[int] = []
        tasks = [
            Task(replace(HOLD, seed=n), tmp_path / f"{n}.safetensors", word, "cpu")
            for n, word in enumerate(words)
        ]
        more = {"threads": 1, "logs": None, "job": job, **more}
        RayExecutor(workers, **more).run(
            tasks,
            on_start=started.append,
            on_report=lambda index, report: pids.append(report[1]),
            on_end=results.__setitem__,
        )
        assert sorted(started) == list(range(len(words)))
        assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
        return [results[n] for n in range(len(words))], pids

    return run


class Quiet:
    """Adds nothing to a run."""

    def opened(self, *_: Any) -> None:
        pass

    def ended(self, cell: Cell) -> None:
        pass

    def summary(self, status: str) -> dict[str, str]:
        return {"status": status}


class Watch(Silence):
    """Keeps what is shown, and kills the process of a cell once, as soon as a step is done."""

    def __init__(self, victim: Cell) -> None:
        self.victim = victim
        self.shown: list[Any] = []
        self.pids: list[int] = []

    def start(self, cell: Cell) -> None:
        self.shown += ["start"] * (cell == self.victim)

    def step(self, cell: Cell, done: int, n_steps: int, century: str) -> None:
        self.shown += [done] * (cell == self.victim)
        if cell == self.victim and done == 1 and len(self.pids) == 1:
            os.kill(self.pids[0], signal.SIGKILL)

    def phase(self, cell: Cell, phase: str) -> None:
        if cell == self.victim and phase.startswith("pid"):
            self.pids.append(int(phase.split()[1]))

    def finish(self, cell: Cell, score: float, seconds: float) -> None:
        self.shown += ["finish"] * (cell == self.victim)


def play(matrix: Matrix, folder: Path, watch: Watch | None = None, **more: Any) -> RunFolder:
    """Play on Ray, or in processes of a pool where nothing is said of Ray."""

    def make(workers: int, logs: Path) -> RayExecutor:
        return RayExecutor(workers, matrix.threads, logs, **more)

    return play_matrix(
        matrix,
        Quiet(),
        make_folder=lambda: new_folder(folder),
        workers=2,
        display=lambda *_: watch or Silence(),
        executor=make if more else None,
    )


def matrix_of(history: Path, *cells: Cell) -> Matrix:
    agents = tuple(cell.agent for cell in cells)
    block = Block(agents, (HOLD.challenge,), (HOLD.update,), steps_ahead=(HOLD.steps_ahead,))
    return Matrix((block,), str(history), device="cpu")


def content(folder: Path) -> dict[str, bytes]:
    files = [folder / "episodes.jsonl", *(folder / "cells").iterdir()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_killed_worker_costs_nothing_and_the_bytes_are_those_of_the_pool(
    quick_history: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):  # fmt: skip
    matrix = matrix_of(quick_history, LIFELONG, HOLD)
    play(matrix, tmp_path / "pool")
    # Workers are elsewhere: what is meant from here must not be looked for from there.
    monkeypatch.chdir(tmp_path)
    relative = replace(matrix, history=os.path.relpath(quick_history))
    watch = Watch(LIFELONG)
    capfd.readouterr()
    folder = play(relative, Path("ray"), watch, job=play_and_say_where)
    assert capfd.readouterr() == ("", "")
    assert not folder.failures
    assert len(set(watch.pids)) == 2
    # It begins once, and does not do again what was done.
    assert watch.shown == ["start", 0, 1, 1, "finish"]
    assert content(tmp_path / "ray") == content(tmp_path / "pool")
    logs = "".join(log.read_text() for log in (tmp_path / "ray").glob("worker-*.log"))
    assert "progressgym: this process died. The actor is dead because" in logs


def test_a_cell_that_fails_is_written_down_and_the_others_go_on(cluster: str, tmp_path: Path):
    matrix = matrix_of(damaged_history(tmp_path / "damaged"), LIFELONG, HOLD)
    folder = play(matrix, tmp_path / "run", address=None)
    assert list(folder.scores) == [HOLD]
    failure = folder.failures[LIFELONG]
    assert failure.message
    assert "Traceback" in failure.traceback
    assert (tmp_path / "run" / "failures.json").is_file()


def test_an_ending_that_a_dying_worker_could_not_tell_is_read(cluster: str, tmp_path: Path):
    matrix = matrix_of(Path("embedded"), HOLD)
    folder = play(matrix, tmp_path / "run", job=play_and_die_once)
    assert list(folder.scores) == [HOLD]


def test_errors_and_deaths_cost_their_own_task(on_ray: Callable[..., Any]):
    results, pids = on_ray("raise", "die", "return", "return", restarts=1)
    mistake, death, *others = results
    assert (mistake.error, mistake.message) == ("InvalidArgumentError", "no such thing")
    assert mistake.expected
    assert "Traceback" in mistake.traceback
    assert isinstance(death, Failure)
    assert (death.error, death.expected) == ("ProcessDied", False)
    assert "2 times in succession" in death.message
    assert others == [2, 3]
    # After an error the process is replaced, after a success not. What one says as it dies is lost.
    assert pids[-1] == pids[-2] != pids[0]


def test_threads_are_fixed_before_anything_is_imported(on_ray: Callable[..., Any]):
    results, _ = on_ray("threads", threads=2)
    assert results == [["2"] * 4]


def test_what_workers_print_goes_to_a_log(
    on_ray: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    on_ray("print", "return", workers=None, logs=tmp_path)
    assert capfd.readouterr() == ("", "")
    (log,) = tmp_path.glob("worker-*.log")
    assert log.read_text() == "a warning of some library\n"


def test_what_the_cluster_lacks_is_said(on_ray: Callable[..., Any]):
    with pytest.raises(InvalidArgumentError, match=r"threads=3: .* the largest has 2; ask for"):
        on_ray("return", threads=3)


def test_a_machine_without_this_package_is_named(
    on_ray: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    folder = tmp_path_factory.mktemp("path")
    hide = "import sys; sys.modules['progressgym_env'] = None\n"
    (folder / "sitecustomize.py").write_text(hide)
    options = RayExecutor._options

    def elsewhere(executor: RayExecutor) -> dict[str, Any]:
        made = options(executor)
        made["runtime_env"]["env_vars"]["PYTHONPATH"] = str(folder)
        return made

    monkeypatch.setattr(RayExecutor, "_options", elsewhere)
    with pytest.raises(
        ProgressGymError, match=r"cannot load progressgym_env \(.*No module.*install it"
    ):
        on_ray("return")


def test_a_machine_with_other_software_is_refused(
    on_ray: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    ours = software()
    ours["versions"]["torch"] = "1.0"
    monkeypatch.setattr(ray_executor, "software", lambda: ours)
    with pytest.raises(ProgressGymError, match=r"versions.torch: 1.0 → 2"):
        on_ray("return")


def test_a_machine_that_does_not_see_the_run_folder_is_named(
    on_ray: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    # As a token that is written on one machine, and not there on the other.
    monkeypatch.setattr(ray_executor, "write_text", lambda path, text: None)
    with pytest.raises(RunFolderError, match=r"the machine \S+ of the Ray cluster does not see"):
        on_ray("return")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"workers": 0}, "workers=0 must be 1 or more"),
        ({"threads": 0}, "threads=0 must be 1 or more"),
        ({"gpus": -1.0}, "gpus=-1.0 must be 0 or more"),
        ({"restarts": -1}, "restarts=-1 must be 0 or more"),
        ({"address": "ray://head:10001"}, "is that of a Ray client"),
        ({"address": "head"}, "must be 'auto', 'local' or 'HOST:PORT'"),
    ],
)
def test_arguments_out_of_range_are_refused(changed: dict[str, Any], message: str):
    arguments: dict[str, Any] = {"workers": None, "threads": 1, "logs": None, **changed}
    with pytest.raises(InvalidArgumentError, match=message):
        RayExecutor(**arguments)


def test_where_no_cluster_answers_it_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InvalidArgumentError, match=r"no Ray cluster could be joined there .*start"):
        _join(None, f"127.0.0.1:{port}")


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'progressgym-env\[ray\]'"):
        RayExecutor(None, 1, None)


DRIVER = """
import signal, sys, threading
from pathlib import Path
from progressgym_env.benchmarks.ray_executor import RayExecutor
from tests.benchmarks.test_ray import HOLD, Task, job

def say(index, report):
    print(report[1], flush=True)

signal.signal(signal.SIGTERM, signal.default_int_handler)
before = signal.getsignal(signal.SIGTERM)
folder, address = Path(sys.argv[1]), sys.argv[2] or None
tasks = [Task(HOLD, folder / "no file", "sleep", "cpu")] * 3
try:
    RayExecutor(2, 1, folder, address=address, job=job).run(tasks, on_report=say, on_end=print)
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGTERM) is before
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(("number", "own"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupt_leaves_no_process_but_those_of_others(
    number: signal.Signals, own: bool, cluster: str, tmp_path: Path
):
    """Of a terminal, to all its processes; a cluster that was only joined does not notice."""
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), "" if own else cluster],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as driver:  # fmt: skip
        assert driver.stdout is not None
        workers = [psutil.Process(int(driver.stdout.readline())) for _ in range(2)]
        processes = psutil.Process(driver.pid).children(recursive=True)
        assert set(workers).issubset(processes) == own
        began = time.monotonic()
        os.killpg(driver.pid, number)
        assert driver.stdout.read() == "interrupted\n"
    _, alive = psutil.wait_procs([*processes, *workers], timeout=5)
    assert not alive
    assert time.monotonic() - began < 30
    assert not list(tmp_path.iterdir())
    import ray

    assert ray.is_initialized()
    assert len([node for node in ray.nodes() if node["Alive"]]) == 1
