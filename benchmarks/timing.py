"""What measurements of speed share: the machine in words, and medians of seconds."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

from progressgym_env.benchmarks.machine import available_cores, processor

__all__ = ["header", "median_seconds"]

_PACKAGES = ("torch", "transformers", "peft", "trl", "gymnasium", "numpy")


def header() -> str:
    """The machine and the versions of what is measured, in two lines."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{platform.machine()}, {processor()}, {available_cores()} of {os.cpu_count()} cores\n"
        f"Python {platform.python_version()}, {versions}"
    )


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of ``work``, once it has been done before."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
