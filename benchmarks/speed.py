"""Seconds and tokens: ``python -m progressgym_env.benchmarks.speed`` (``make bench``).

Prints one table of measured numbers for a history: importing, and the first step, in processes of
their own; then, in this process and warm, make and reset, the parts of a step of each challenge,
and the value embedding's throughput; and peak memory. Beside them stand the targets of the design,
which are for the embedded history on two CPU cores. Nothing here is a test; nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from progressgym_env import CHALLENGES
from progressgym_env.benchmarks.timing import header, median_seconds
from progressgym_env.errors import InvalidArgumentError, ProgressGymError
from progressgym_env.files import write_json
from progressgym_env.histories.loading import load, load_one

__all__ = ["main"]

_START, _EMBEDDING = "< 3", "≤ 1.5"
_STEP = {"follow": "≤ 4", "coevolve": "≤ 8"}
_IMPORT = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"
# Says on its last line how long each part took, and what torch, loaded in the step, runs with.
_FIRST_STEP = """
import json, sys, time
times = [time.perf_counter()]
import gymnasium, progressgym_env
from progressgym_env.agents import LifelongAgent
times.append(time.perf_counter())
env = gymnasium.make("ProgressGym/Follow-v0", history=sys.argv[1])
observation, _ = env.reset(seed=0)
times.append(time.perf_counter())
action, _ = LifelongAgent().predict(observation)
times.append(time.perf_counter())
env.step(action)
times.append(time.perf_counter())
import torch
print(json.dumps([times, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()]))
"""


@dataclass(frozen=True)
class _Row:
    """One measured number; ``target`` is what the design asks of it, where it asks anything."""

    what: str
    value: float
    unit: str
    of: str
    target: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; ``--json FILE`` also writes the numbers."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    console = Console()
    machine = header()
    console.print(machine, highlight=False)
    try:
        # A mistake should cost no minutes.
        load(chosen.history)
        torch_runs_with, rows = _fresh(chosen.history, chosen.repeats)
        console.print(torch_runs_with, highlight=False)
        for challenge in chosen.challenges:
            rows += _challenge(challenge, chosen.history, chosen.repeats, chosen.steps)
        rows += _embedding(chosen.history, chosen.repeats)
    except ProgressGymError as error:
        parser.error(str(error))
    rows.append(_Row("peak memory", _peak_memory_mib(), "MiB", "this process"))
    table = Table("what", "median", "target", "unit", "of")
    for row in rows:
        value = f"{row.value:,.3f}" if row.value < 100 else f"{row.value:,.0f}"
        table.add_row(row.what, value, row.target, row.unit, row.of)
    console.print(table)
    if chosen.json is not None:
        numbers = [asdict(row) for row in rows]
        write_json(chosen.json, {"header": f"{machine}\n{torch_runs_with}", "numbers": numbers})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=_positive, default=5, help="measurements a number")
    parser.add_argument("--steps", type=_positive, default=4, help="steps measured a challenge")
    parser.add_argument("--history", default="embedded", help="name or folder of a history")
    parser.add_argument(
        "--challenges", nargs="+", choices=tuple(CHALLENGES), default=list(CHALLENGES)
    )
    parser.add_argument("--json", type=Path, default=None, help="write the numbers to this file")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return number


def _fresh(history: str, repeats: int) -> tuple[str, list[_Row]]:
    """What torch runs with, in words, and the seconds of processes that have done nothing yet."""
    rows = [
        _Row(
            f"import {module}",
            statistics.median(float(_run(_IMPORT.format(module))) for _ in range(repeats)),
            "s",
            "fresh process",
        )
        for module in ("progressgym_env", "progressgym_env.models.language")
    ]
    parts: list[list[float]] = []
    for _ in range(repeats):
        times, threads, capability = json.loads(_run(_FIRST_STEP, history).splitlines()[-1])
        began, imported, reset, acted, done = times
        parts.append([reset - imported, done - acted, done - began])
    start, step, whole = (statistics.median(part) for part in zip(*parts, strict=True))
    rows += [
        _Row("make + reset Follow", start, "s", "fresh process", _START),
        _Row(
            "first step Follow",
            step,
            "s",
            "fresh process: loads torch, trl and the models",
            _STEP["follow"],
        ),
        _Row("import, make, reset and first step Follow", whole, "s", "fresh process"),
    ]
    return f"{threads} torch threads, {capability}", rows


def _run(code: str, *arguments: str) -> str:
    """What ``code`` prints in a process of its own.

    Raises:
        InvalidArgumentError: it failed; the message is its error.
    """
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InvalidArgumentError(said[-1])
    return done.stdout


def _challenge(challenge: str, history: str, repeats: int, n_steps: int) -> list[_Row]:
    """Make, reset and the parts of a step, all of them warm."""
    import gymnasium as gym

    from progressgym_env.agents import LifelongAgent

    def start() -> tuple[gym.Env[Any, Any], Any]:
        env = gym.make(CHALLENGES[challenge], history=history)
        return env, env.reset(seed=0)[0]

    name = challenge.capitalize()
    seconds = median_seconds(start, repeats)
    rows = [_Row(f"make + reset {name}", seconds, "s", "warm", _START)]
    env, observation = start()
    agent = LifelongAgent()
    unwrapped: Any = env.unwrapped
    unwrapped.on_phase = clock = _PhaseClock()
    steps: list[dict[str, float]] = []
    # One more than asked for: the first loads the models, and it is left out.
    for _ in range(n_steps + 1):
        action, _ = agent.predict(observation)
        clock.start()
        observation, _, terminated, _, _ = env.step(action)
        steps.append(clock.stop())
        if terminated:
            observation, _ = env.reset()
    env.close()
    of = f"lifelong, warm, {n_steps} steps"
    for part in dict.fromkeys(part for step in steps for part in step):
        seconds = statistics.median(step.get(part, 0.0) for step in steps[1:])
        target = _STEP.get(challenge, "") if part == "whole" else ""
        rows.append(_Row(f"step {name}: {part}", seconds, "s", of, target))
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


def _embedding(name: str, repeats: int) -> list[_Row]:
    from progressgym_env.models.language import LanguageModel
    from progressgym_env.values.forms import question_prompts

    history = load_one(name)
    model = history.initial_model()
    seconds = median_seconds(model.values, repeats)
    asked = f"{len(history.questions.eval)} questions, warm"
    rows = [_Row("value embedding", seconds, "s", asked, _EMBEDDING)]
    if not isinstance(model, LanguageModel):
        return rows
    prompts = tuple(p for q in history.questions.eval for p in question_prompts(q))
    plan = model.host.plan(prompts)
    plain = sum(len(model.host.encode_prompt(prompt.text)) for prompt in prompts)
    tokens = f"{plan.n_tokens:,} packed; {plain:,} prompt tokens unshared"
    return [
        *rows,
        _Row("value embedding: prompts", len(prompts) / seconds, "prompts/s", f"{len(prompts)}"),
        _Row("value embedding: tokens", plan.n_tokens / seconds, "tokens/s", tokens),
    ]


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
