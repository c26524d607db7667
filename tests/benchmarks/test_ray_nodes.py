"""Several machines: a Ray cluster of several nodes on this one, of which one is lost mid-run.

Their GPUs are none: a node says that it has one, which is what Ray goes by.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.benchmarks.bench import Outcome, Task, play_matrix
from progressgym_env.benchmarks.bench_result import BenchHooks
from progressgym_env.benchmarks.display import Silence
from progressgym_env.benchmarks.matrix import Block, Cell, Matrix
from progressgym_env.benchmarks.ray_cluster import _load, gpus_of_a_cell
from progressgym_env.benchmarks.ray_executor import RayExecutor, _absolute
from progressgym_env.benchmarks.ray_worker import play_or_read
from progressgym_env.benchmarks.run_folder import RunFolder
from progressgym_env.errors import EngineError, InvalidArgumentError
from progressgym_env.files import new_folder
from progressgym_env.models.engines import VllmSettings

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


def play_and_say_where(task: Task, report: Callable[[Any], None]) -> Outcome:
    import ray

    context = ray.get_runtime_context()
    gpus = ",".join(map(str, ray.get_gpu_ids()))
    said = f"{context.get_node_id()} {gpus or 'none'} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
    report(("phase", f"at {said}"))
    return play_or_read(task, report)


@contextmanager
def of_nodes(*resources: dict[str, int]) -> Iterator[Any]:
    """A cluster of machines, each with what it says, and a core, as far as Ray knows."""
    ray = _load()  # As the package does: it asks Ray to be quiet.
    from ray.cluster_utils import Cluster

    each = [{"num_cpus": 1, "object_store_memory": 100_000_000, **some} for some in resources]
    cluster = Cluster(initialize_head=True, head_node_args=each[0])
    try:
        for some in each[1:]:
            cluster.add_node(**some)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of two machines, each with a core and a GPU, as far as Ray knows."""
    with of_nodes({"num_gpus": 1}) as cluster:
        yield cluster, cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=100_000_000)


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


def seen_by_vllm(task: Task, report: Callable[[Any], None]) -> Any:
    """The GPUs that Ray gave, those this process sees, and those that a vLLM sees."""
    import ray

    from progressgym_env.models.adapters import default_lora_config
    from progressgym_env.models.loading import BaseSource
    from progressgym_env.models.vllm_engine import VllmEngine

    assert isinstance(task.engine, VllmSettings)
    with pytest.raises(EngineError) as ended:
        VllmEngine(
            BaseSource("none"), default_lora_config(), 0, adapter_bytes=1, dtype="float32",
            device="cuda", max_length=8, settings=task.engine,
        )  # fmt: skip
    given = ",".join(map(str, ray.get_gpu_ids()))
    return given, os.environ["CUDA_VISIBLE_DEVICES"], str(ended.value).rpartition("sees ")[2]


def test_vllm_sees_the_gpus_of_its_episode_and_no_others(tmp_path: Path):
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nsleep 2\necho "sees $CUDA_VISIBLE_DEVICES" >&2\n')
    program.chmod(0o755)
    settings = VllmSettings(python=str(program), tensor_parallel_size=2)
    cell = Cell("follow", "dpo", "current", 1, "hold", 0)
    tasks = [
        Task(replace(cell, seed=n), tmp_path / f"{n}.safetensors", "none", "cuda", settings)
        for n in range(2)
    ]
    found: dict[int, Any] = {}
    with of_nodes({"num_gpus": 4, "num_cpus": 2}, {"num_gpus": 1}) as cluster:
        executor = RayExecutor(2, 1, None, address=cluster.address, gpus=2, job=seen_by_vllm)
        executor.run(tasks, on_end=found.__setitem__)
        # Five in all are not five of one machine.
        with pytest.raises(InvalidArgumentError, match=r"gpus=5: .*, the largest has 4"):
            RayExecutor(2, 1, None, address=cluster.address, gpus=5).run(tasks, on_end=print)
    seen = [found[n] for n in range(2)]
    assert all(given == own == vllms for given, own, vllms in seen), seen
    assert sorted(",".join(given for given, _, _ in seen).split(",")) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("settings", "asked", "given"),
    [
        ({"engine": "vllm"}, None, 1),
        ({"engine": "vllm", "tensor_parallel_size": 4}, None, 4),
        ({"engine": "vllm", "tensor_parallel_size": 4}, 8.0, 8),
        ({"engine": "vllm"}, 0.5, 0.5),
        ({"engine": "vllm"}, 0.0, 0),
        ({"engine": "vllm", "device": "cpu", "tensor_parallel_size": 2}, None, 0),
        ({}, None, 0),
        ({}, 1.0, 1),
    ],
)
def test_an_episode_has_as_many_gpus_as_vllm_needs(
    settings: dict[str, Any], asked: float | None, given: float
):
    assert gpus_of_a_cell(Matrix(**settings), asked) == given


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (2.0, "--gpus 2 is less than the 4 GPUs of --tensor-parallel-size 4"),
        (0.0, "--gpus 0 is less than the 4 GPUs"),
        (4.5, "--gpus 4.5 must be a part of one GPU, or a whole number"),
    ],
)
def test_too_few_gpus_for_vllm_are_refused(asked: float, says: str):
    with pytest.raises(InvalidArgumentError, match=says):
        gpus_of_a_cell(Matrix(engine="vllm", tensor_parallel_size=4), asked)


def test_a_name_stays_a_name_and_a_path_becomes_absolute(tmp_path: Path):
    cell = Cell("follow", "dpo", "current", 1, "hold", 0)

    def history_of(name: str) -> str:
        return _absolute(Task(cell, tmp_path / "x.safetensors", name, "cpu")).history

    for name in ("embedded", "histllama-8b", "simulated-test:breaks"):
        assert history_of(name) == name
    assert history_of("somewhere") == str(Path("somewhere").absolute())
