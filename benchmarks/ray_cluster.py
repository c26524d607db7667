"""A Ray cluster to work on: one that is there already, or one of this machine for the time."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from progressgym_env.benchmarks.machine import environment
from progressgym_env.benchmarks.matrix import Matrix
from progressgym_env.benchmarks.pool import held_signals
from progressgym_env.errors import InvalidArgumentError, MissingPackageError

__all__ = ["check_address", "gpus_of_a_cell", "joined", "require_ray"]

# The least Ray takes; what workers send is small.
_STORE_BYTES = 100_000_000
_ANSWER_SECONDS = 10.0


def require_ray() -> None:
    """Make sure that Ray is installed, without loading it.

    Raises:
        MissingPackageError: it is not.
    """
    spec = find_spec("ray")
    # A folder called ray passes for an empty package.
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "playing on a Ray cluster needs the package ray, which is not installed; install it "
            "with: pip install 'progressgym-env[ray]'"
        )


def check_address(address: str | None) -> None:
    """Refuse what is no address of a cluster.

    Raises:
        InvalidArgumentError: it is none, or that of a Ray client.
    """
    if address in (None, "auto", "local"):
        return
    if address.startswith("ray://"):
        raise InvalidArgumentError(
            f"address={address!r} is that of a Ray client, which does not see what workers report; "
            "run this on a machine of the cluster, with address='auto' or 'HOST:PORT' of its head"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InvalidArgumentError(
            f"address={address!r} must be 'auto', 'local' or 'HOST:PORT', such as "
            "'head.example.org:6379'"
        )


def gpus_of_a_cell(matrix: Matrix, gpus: float | None) -> float:
    """GPUs of the cluster that each episode of ``matrix`` has for itself.

    They are of one machine: Ray gives a process none of another. ``CUDA_VISIBLE_DEVICES`` names
    them there, also to the process of vLLM.

    Args:
        matrix: what is played.
        gpus: what is asked for; None takes as many as vLLM needs, and none where there is no vLLM.

    Raises:
        InvalidArgumentError: vLLM needs more, or it is a number of GPUs that Ray does not give.
    """
    needed = matrix.tensor_parallel_size
    if matrix.engine != "vllm" or matrix.device == "cpu":
        needed = 0
    if gpus is None:
        if matrix.launch is not None and matrix.device != "cpu":
            raise InvalidArgumentError(
                f"--launch {matrix.launch!r} on Ray: say with --gpus how many GPUs an episode has "
                "for itself, or those of one machine would take the same"
            )
        return float(needed)
    # With one alone, vLLM takes what it sees: a part, or one of all.
    if needed > 1 and gpus < needed:
        raise InvalidArgumentError(
            f"--gpus {gpus:g} is less than the {needed} GPUs of --tensor-parallel-size {needed}; "
            f"leave --gpus out, or give {needed} or more"
        )
    if gpus > 1 and not gpus.is_integer():
        raise InvalidArgumentError(
            f"--gpus {gpus:g} must be a part of one GPU, or a whole number of them"
        )
    return gpus


@contextmanager
def joined(address: str | None, n_cpus: int) -> Iterator[Any]:
    """Lend the package ``ray``, connected to a cluster.

    A cluster that this process was connected to before stays so; one that is joined here is left
    at the end, and goes on; one that is started here ends, with all its processes and files.

    Args:
        address: of the cluster; None for that of the environment variable ``RAY_ADDRESS``, and
            where there is none, or for ``"local"``, one of this machine alone.
        n_cpus: cores that such a one lends.

    Raises:
        InvalidArgumentError: there is no cluster at ``address``.
    """
    ray = _load()
    if ray.is_initialized():
        yield ray
        return
    asked = address or os.environ.get("RAY_ADDRESS") or "local"
    check_address(asked)
    # Short: the paths of sockets have room for a hundred letters.
    folder = Path(tempfile.mkdtemp(prefix="pgray-")) if asked == "local" else None
    try:
        with environment({"RAY_USAGE_STATS_ENABLED": "0"}):
            if folder is None:
                _join(ray, asked)
            else:
                _start(ray, n_cpus, folder)
        yield ray
    finally:
        with held_signals():
            ray.shutdown()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, n_cpus: int, folder: Path) -> None:
    # Interrupted midway, it would leave processes behind; and Ray takes over SIGTERM.
    with held_signals():
        ray.init("local", num_cpus=n_cpus, object_store_memory=_STORE_BYTES,
                 include_dashboard=False, log_to_driver=False, logging_level="ERROR",
                 _temp_dir=str(folder))  # fmt: skip


def _join(ray: Any, address: str) -> None:
    try:
        if address != "auto":
            # Ray itself would try for minutes.
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
        with _kept_handler():
            ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"address={address!r}: no Ray cluster could be joined there ({error}); start one with "
            "`ray start --head`, or leave the address out for one of this machine alone"
        ) from error


@contextmanager
def _kept_handler() -> Iterator[None]:
    """Put back what is done on SIGTERM, which Ray takes over."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Elsewhere handlers cannot be changed; None is set by a library in C.
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _load() -> Any:
    require_ray()
    # Ray prints a paragraph about every process that dies, in the middle of what is shown here.
    with environment({"RAY_DEDUP_LOGS_SKIP_REGEX": "."}):
        return import_module("ray")
