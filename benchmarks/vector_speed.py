"""How fast the simulated vector environments are, and what their time goes to.

Run as a program on one core: ``python -m progressgym_env.benchmarks.vector_speed``. It prints steps
a second beside Gymnasium's own vector CartPole, whether a step comes to cost more the longer it
runs, memory a row, and a profile. Nothing here is a test; nothing is asserted.
"""

from __future__ import annotations

import cProfile
import pstats
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.table import Table

from progressgym_env import CHALLENGES

__all__ = ["Speed", "cartpole", "memory_of_a_row", "profile", "steps_per_second"]

N_ENVS = 1024
TARGET = "≥ 300,000"
# What the parts of a step are called in a profile, by the function that does them.
_PARTS = {
    "begin": "drawing episodes (once in eight steps)",
    "train": "rounding and training",
    "influenced": "influencing the proxies",
    "_paid": "reward",
    "elicited": "margins, questions and answers",
    "encoded": "dialogue as bytes",
    "_handed_out": "copying observations",
    "check_actions": "checking actions",
    "_tell_ends": "telling the ends of episodes (with drawing the next)",
}


@dataclass(frozen=True)
class Speed:
    """Steps a second.

    Attributes:
        best: of the fastest repeat, which nothing else disturbed.
        median: of all repeats.
        drift: seconds a step in the last fifth of the repeats, relative to the first fifth.
    """

    best: float
    median: float
    drift: float


def steps_per_second(
    challenge: str,
    n_envs: int = N_ENVS,
    *,
    copy: bool = True,
    seconds: float = 2.0,
    mode: str = "SameStep",
) -> Speed:
    """Environment steps a second, with complete observations, dialogue included.

    Args:
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        n_envs: environments side by side.
        copy: whether observations are copies.
        seconds: how long to measure.
        mode: of autoreset; with ``"NextStep"``, the steps that only reset are not counted.
    """
    envs = _made(challenge, n_envs, copy, mode)
    actions = _actions(envs)
    n_steps = envs.unwrapped.n_steps  # type: ignore[attr-defined]
    calls = n_steps + (mode == "NextStep")
    for _ in range(2 * calls):
        envs.step(next(actions))
    return _timed(lambda: envs.step(next(actions)), calls, n_steps * n_envs, seconds)


def cartpole(n_envs: int = N_ENVS, seconds: float = 1.0) -> Speed:
    """Steps a second of Gymnasium's own vector CartPole, for comparison."""
    envs = gym.make_vec("CartPole-v1", num_envs=n_envs, vectorization_mode="vector_entry_point")
    envs.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 2, size=n_envs)
    return _timed(lambda: envs.step(actions), 50, 50 * n_envs, seconds)


def memory_of_a_row(challenge: str, n_envs: int) -> float:
    """Bytes that an environment of a batch takes, at its largest."""
    tracemalloc.start()
    envs = _made(challenge, n_envs, True, "SameStep")
    actions = np.zeros(envs.action_space.shape or (), np.float32)
    for _ in range(9):
        envs.step(actions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / n_envs


def profile(challenge: str, n_envs: int = N_ENVS, n_calls: int = 160) -> dict[str, float]:
    """Share of the time that each part of a step takes, largest first."""
    envs = _made(challenge, n_envs, True, "SameStep")
    actions = _actions(envs)
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(n_calls):
        envs.step(next(actions))
    profiler.disable()
    stats: Any = pstats.Stats(profiler)
    shares: dict[str, float] = {}
    for (_, _, name), (_, _, _, cumulative, _) in stats.stats.items():
        if name in _PARTS:
            shares[_PARTS[name]] = shares.get(_PARTS[name], 0.0) + cumulative / stats.total_tt
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def main() -> None:
    """Measure and print."""
    console = Console()
    table = Table("what", "steps/s, best", "median", "target", "cost late / early")
    for challenge in CHALLENGES:
        for copy in (True, False):
            speed = steps_per_second(challenge, copy=copy)
            what = f"{challenge}, {N_ENVS:,} environments" + ("" if copy else ", not copied")
            table.add_row(what, *_cells(speed, TARGET))
    table.add_row(f"Gymnasium's CartPole, {N_ENVS:,} environments", *_cells(cartpole(), ""))
    console.print(table)
    for challenge in CHALLENGES:
        sizes = ", ".join(
            f"{memory_of_a_row(challenge, n) / 1024:.1f} KiB at {n:,}" for n in (256, 1024, 4096)
        )
        console.print(f"memory a row, {challenge}: {sizes}")
        parts = profile(challenge)
        console.print(f"profile of {challenge} (parts overlap where one holds another):")
        for part, share in parts.items():
            console.print(f"  {share:5.1%} {part}")


def _made(
    challenge: str, n_envs: int, copy: bool, mode: str
) -> gym.vector.VectorEnv[Any, Any, Any]:
    envs = gym.make_vec(
        CHALLENGES[challenge], num_envs=n_envs, history="simulated", autoreset_mode=mode, copy=copy
    )
    envs.reset(seed=0)
    return envs


def _actions(envs: gym.vector.VectorEnv[Any, Any, Any]) -> Iterator[Any]:
    """Proposals of ordinary size, a few by turns, made beforehand."""
    rng = np.random.default_rng(0)
    few = [rng.uniform(-0.4, 0.4, envs.action_space.shape).astype(np.float32) for _ in range(4)]
    while True:
        yield from few


def _timed(step: Callable[[], object], calls: int, n_steps: int, seconds: float) -> Speed:
    """Speed of ``step``, called ``calls`` times a repeat, which makes ``n_steps`` steps."""
    took: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(took) < 5:
        began = time.perf_counter()
        for _ in range(calls):
            step()
        took.append(time.perf_counter() - began)
    fifth = max(len(took) // 5, 1)
    drift = float(np.median(took[-fifth:]) / np.median(took[:fifth]))
    return Speed(n_steps / min(took), n_steps / float(np.median(took)), drift)


def _cells(speed: Speed, target: str) -> tuple[str, ...]:
    return f"{speed.best:,.0f}", f"{speed.median:,.0f}", target, f"{speed.drift:.2f}"


if __name__ == "__main__":
    main()
