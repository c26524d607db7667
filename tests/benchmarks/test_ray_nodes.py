"""Several machines: a Ray cluster of several nodes on this one, of which one is lost mid-run.

Their GPUs are none: a node says that it has one, which is what Ray goes by.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.benchmarks.bench import Outcome, Task, play_matrix
from progressgym_env.benchmarks.bench_result import BenchHooks
from progressgym_env.benchmarks.display import Silence
from progressgym_env.benchmarks.matrix import Block, Cell, Matrix
from progressgym_env.benchmarks.ray_cluster import _load
from progressgym_env.benchmarks.ray_executor import RayExecutor, _absolute
from progressgym_env.benchmarks.ray_worker import play_or_read
from progressgym_env.benchmarks.run_folder import RunFolder
from progressgym_env.files import new_folder

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


def play_and_say_where(task: Task, report: Callable[[Any], None]) -> Outcome:
    import ray

    context = ray.get_runtime_context()
    gpus = ",".join(map(str, ray.get_gpu_ids()))
    said = f"{context.get_node_id()} {gpus or 'none'} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
    report(("phase", f"at {said}"))
    return play_or_read(task, report)


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of two machines, each with a core and a GPU, as far as Ray knows."""
    ray = _load()  # As the package does: it asks Ray to be quiet.
    from ray.cluster_utils import Cluster

    resources = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=resources)
    try:
        yield cluster, cluster.add_node(**resources)
    finally:
        ray.shutdown()
        cluster.shutdown()


class Watch(Silence):
    """Where each episode is played; loses a machine once an episode got a step further there."""

    def __init__(self, cluster: Any, second: Any) -> None:
        self._cluster, self._second = cluster, second
        self.places: dict[Cell, list[str]] = {}
        self.gpus: set[tuple[str, str]] = set()
        self.lost: Cell | None = None
        self.steps: list[int] = []

    def phase(self, cell: Cell, phase: str) -> None:
        if phase.startswith("at "):
            _, node, gpu, visible = phase.split()
            self.places.setdefault(cell, []).append(node)
            self.gpus.add((gpu, visible))

    def step(self, cell: Cell, done: int, n_steps: int, century: str) -> None:
        if cell == self.lost:
            self.steps.append(done)
        if done >= 1 and self.lost is None and self.places[cell][-1] == self._second.node_id:
            self.lost = cell
            self._cluster.remove_node(self._second, allow_graceful=False)


def play(matrix: Matrix, out: Path, watch: Silence, **more: Any) -> RunFolder:
    executor = None
    if more:
        executor = lambda workers, logs: RayExecutor(None, 1, logs, **more)  # noqa: E731
    return play_matrix(
        matrix, BenchHooks(), make_folder=lambda: new_folder(out), workers=1,
        display=lambda *_: watch, executor=executor,
    )  # fmt: skip


def test_a_lost_machine_costs_nothing(short_history: Path, nodes: Any, tmp_path: Path):
    """One GPU an episode; what was played on the machine goes on elsewhere, at its century."""
    cluster, second = nodes
    block = Block(("lifelong", "extrapolative"), ("follow",), ("sft",))
    matrix = Matrix((block,), str(short_history), device="cpu")
    play(matrix, tmp_path / "pool", Silence())
    watch = Watch(cluster, second)
    folder = play(
        matrix, tmp_path / "ray", watch, address=cluster.address, gpus=1,
        job=play_and_say_where,
    )  # fmt: skip
    assert not folder.failures
    assert watch.lost is not None
    assert len(watch.places[watch.lost]) == 2
    assert len({node for nodes in watch.places.values() for node in nodes}) == 2
    assert watch.gpus == {("0", "0")}
    # It is told again what was done, and does not do it again.
    assert watch.steps == sorted(watch.steps)
    for file in (tmp_path / "pool" / "cells").iterdir():
        assert (tmp_path / "ray" / "cells" / file.name).read_bytes() == file.read_bytes()
    episodes = (tmp_path / "pool" / "episodes.jsonl").read_bytes()
    assert (tmp_path / "ray" / "episodes.jsonl").read_bytes() == episodes


def test_a_name_stays_a_name_and_a_path_becomes_absolute(tmp_path: Path):
    cell = Cell("follow", "dpo", "current", 1, "hold", 0)

    def history_of(name: str) -> str:
        return _absolute(Task(cell, tmp_path / "x.safetensors", name, "cpu")).history

    for name in ("embedded", "histllama-8b", "simulated-test:breaks"):
        assert history_of(name) == name
    assert history_of("somewhere") == str(Path("somewhere").absolute())
