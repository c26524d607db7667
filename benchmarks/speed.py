"""Seconds and tokens: ``python -m progressgym_env.benchmarks.speed`` (``make bench``).

Prints one table of measured numbers for the embedded history: import, make, reset, and the parts
of a step for each challenge, the value embedding's throughput, and peak memory. Nothing here is a
test; nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from progressgym_env.files import write_json

__all__ = ["main"]

_PACKAGES = ("torch", "transformers", "peft", "trl", "gymnasium", "numpy")
_CHALLENGES = ("Follow", "Predict", "Coevolve")
_IMPORT = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; ``--json FILE`` also writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measurements a number (median)")
    parser.add_argument("--steps", type=int, default=4, help="steps measured a challenge")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers to this file")
    chosen = parser.parse_args(arguments)
    console = Console()
    header = _header()
    console.print(header)
    rows = [*_imports(chosen.repeats), *_environments(chosen.steps), *_embedding(chosen.repeats)]
    rows.append(("peak memory", _peak_memory_mib(), "MiB", "this process"))
    table = Table("what", "median", "unit", "of")
    for name, value, unit, note in rows:
        table.add_row(name, f"{value:,.3f}" if value < 100 else f"{value:,.0f}", unit, note)
    console.print(table)
    if chosen.json is not None:
        numbers = [{"what": n, "value": v, "unit": u, "of": o} for n, v, u, o in rows]
        write_json(chosen.json, {"header": header, "numbers": numbers})


Row = tuple[str, float, str, str]


def _header() -> str:
    import torch

    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads, {torch.backends.cpu.get_cpu_capability()}\n"
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


def _imports(repeats: int) -> list[Row]:
    rows: list[Row] = []
    for module in ("progressgym_env", "progressgym_env.models.language"):
        seconds = [
            float(
                subprocess.run(
                    [sys.executable, "-c", _IMPORT.format(module)],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for _ in range(repeats)
        ]
        rows.append((f"import {module}", statistics.median(seconds), "s", "fresh process"))
    return rows


def _environments(n_steps: int) -> list[Row]:
    import gymnasium as gym

    import progressgym_env
    from progressgym_env.agents import make_agent

    rows: list[Row] = []
    for name in _CHALLENGES:
        started = time.perf_counter()
        env = gym.make(f"{progressgym_env.__name__}:ProgressGym/{name}-v0")
        made = time.perf_counter()
        observation, _ = env.reset(seed=0)
        reset = time.perf_counter()
        first = "first in the process, torch included" if not rows else "warm"
        rows += [
            (f"make {name}", made - started, "s", first),
            (f"reset {name}", reset - made, "s", first),
        ]
        agent = make_agent("lifelong")
        clock = _PhaseClock()
        unwrapped: Any = env.unwrapped
        unwrapped.on_phase = clock
        steps: list[dict[str, float]] = []
        for _ in range(n_steps):
            action, _ = agent.predict(observation)
            clock.start()
            observation, _, terminated, _, _ = env.step(action)
            steps.append(clock.stop())
            if terminated:
                observation, _ = env.reset()
        for part in dict.fromkeys(part for step in steps for part in step):
            seconds = statistics.median(step.get(part, 0.0) for step in steps)
            rows.append((f"step {name}: {part}", seconds, "s", f"lifelong, {n_steps} steps"))
        env.close()
    return rows


class _PhaseClock:
    """Adds up the seconds between the phases that an environment announces."""

    def start(self) -> None:
        self._parts: dict[str, float] = {}
        self._phase = "other"
        self._began = self._since = time.perf_counter()

    def __call__(self, phase: str) -> None:
        now = time.perf_counter()
        self._parts[self._phase] = self._parts.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def stop(self) -> dict[str, float]:
        self("other")
        return {**self._parts, "whole": time.perf_counter() - self._began}


def _embedding(repeats: int) -> list[Row]:
    from progressgym_env.histories import load
    from progressgym_env.models.language import LanguageModel
    from progressgym_env.values.forms import question_prompts

    history = load("embedded")
    model = history.initial_model()
    assert isinstance(model, LanguageModel)
    prompts = tuple(p for q in history.questions.eval for p in question_prompts(q))
    seconds = _median_seconds(model.values, repeats)
    plan = model.host.plan(prompts)
    plain = sum(len(model.host.encode_prompt(prompt.text)) for prompt in prompts)
    return [
        ("value embedding", seconds, "s", f"{len(history.questions.eval)} questions"),
        ("value embedding: prompts", len(prompts) / seconds, "prompts/s", f"{len(prompts)}"),
        (
            "value embedding: tokens",
            plan.n_tokens / seconds,
            "tokens/s",
            f"{plan.n_tokens:,} packed; {plain:,} prompt tokens unshared",
        ),
    ]


def _median_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
