"""Runs: agents × seeds on one challenge, episodes side by side, results in a run folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium as gym

from progressgym_env import CHALLENGES, __version__
from progressgym_env.agents import AGENTS, make_agent
from progressgym_env.benchmarks.display import Display, Silence
from progressgym_env.benchmarks.episodes import EpisodeRecord, play_episode
from progressgym_env.benchmarks.plots import draw_trajectories
from progressgym_env.benchmarks.pool import Failure, Pool
from progressgym_env.benchmarks.run_folder import Cell, RunFolder
from progressgym_env.benchmarks.summary import Row, summarise
from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.histories.history import History, load

__all__ = ["DEFAULT_AGENTS", "RunConfig", "RunResult", "available_cores", "run"]

DEFAULT_AGENTS = ("hold", "lifelong", "extrapolative", "oracle")

_PACKAGES = (
    "progressgym-env", "gymnasium", "numpy", "torch", "transformers", "tokenizers", "peft", "trl",
    "accelerate", "datasets", "safetensors", "matplotlib",
)  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """All that the results of a run depend on, besides the versions of the software.

    Attributes:
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        agents: names, see ``progressgym_env.agents.AGENTS``; each plays every seed.
        history: a name, or the path of a history folder.
        update: how the examinee is trained, ``"sft"`` or ``"dpo"``.
        update_from: ``"current"`` or ``"initial"``.
        seeds: of the episodes, all different, 0 or more.
        steps_ahead: how many centuries ahead; for Predict alone, 1 elsewhere.
        device: where language models run, ``"auto"``, ``"cpu"``, ``"cuda"`` and so on.
        threads: threads every episode computes with. Sums of floating-point numbers depend on how
            they are split, so this is fixed, and how many episodes run side by side is not part
            of the configuration: it changes nothing but the time.
    """

    challenge: str = "coevolve"
    agents: tuple[str, ...] = DEFAULT_AGENTS
    history: str = "embedded"
    update: str = "dpo"
    update_from: str = "current"
    seeds: tuple[int, ...] = (0,)
    steps_ahead: int = 1
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        """Check what can be checked without a history.

        Raises:
            InvalidArgumentError: an argument is out of range.
            UnknownNameError: there is no such challenge or agent.
        """
        if self.challenge not in CHALLENGES:
            raise unknown_name("challenge", self.challenge, CHALLENGES)
        _check_distinct("agents", self.agents)
        _check_distinct("seeds", self.seeds)
        for name in self.agents:
            if name not in AGENTS:
                raise unknown_name("agent", name, AGENTS)
        if min(self.seeds) < 0:
            raise InvalidArgumentError(f"seeds={self.seeds}: a seed must be 0 or more")
        if self.threads < 1:
            raise InvalidArgumentError(f"threads={self.threads} must be 1 or more")
        if self.challenge != "predict" and self.steps_ahead != 1:
            raise InvalidArgumentError(
                f"steps_ahead={self.steps_ahead} belongs to the challenge predict; "
                f"{self.challenge} has none, so leave it out or change the challenge"
            )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All episodes, in the order in which they are written down."""
        return tuple((agent, seed) for agent in self.agents for seed in self.seeds)

    def make_env(self) -> gym.Env[Any, Any]:
        """The challenge, as every episode of the run plays it."""
        extra: dict[str, Any] = (
            {"steps_ahead": self.steps_ahead} if self.challenge == "predict" else {}
        )
        return gym.make(
            CHALLENGES[self.challenge],
            history=self.history,
            update=self.update,
            update_from=self.update_from,
            device=self.device,
            **extra,
        )


@dataclass(frozen=True)
class RunResult:
    """What came out of a run.

    Attributes:
        folder: the run folder.
        config: what was asked for.
        history_name: what the history calls itself.
        rows: the table.
        notes: what is missing in the table, and why.
        failures: episodes that came to no end.
    """

    folder: Path
    config: RunConfig
    history_name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    failures: dict[Cell, Failure] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return {
            "folder": str(self.folder),
            "challenge": self.config.challenge,
            "history": self.history_name,
            "update": self.config.update,
            "seeds": list(self.config.seeds),
            "rows": [row.as_dict() for row in self.rows],
            "notes": list(self.notes),
            "failures": [
                {"agent": agent, "seed": seed, "error": f.error, "message": f.message}
                for (agent, seed), f in self.failures.items()
            ],
        }


def available_cores() -> int:
    """Cores this process may use, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers(config: RunConfig) -> int:
    """Processes side by side: as many as there are cores for, and episodes to play."""
    return max(1, min(len(config.cells), available_cores() // config.threads))


def run(
    config: RunConfig,
    make_folder: Callable[[], Path],
    *,
    workers: int | None = None,
    display: Callable[[tuple[Cell, ...], int, int], Display] = lambda *_: Silence(),
) -> RunResult:
    """Play all episodes of ``config`` and write the run folder.

    An episode that fails is written down with its error, and the others go on. On
    KeyboardInterrupt all processes end, what is finished stays in the folder, and
    ``summary.json`` says ``"interrupted"``.

    Args:
        config: what to play.
        make_folder: makes the run folder; called once all arguments are checked, so that a
            mistake leaves no folder behind.
        workers: processes side by side, at least 1; see ``default_workers``.
        display: makes the display, from the episodes, the steps of each, and ``workers``.

    Raises:
        ProgressGymError: an argument is wrong; nothing was played or written.
        KeyboardInterrupt: after tidying up.
    """
    workers = default_workers(config) if workers is None else workers
    if workers < 1:
        raise InvalidArgumentError(f"workers={workers} must be 1 or more")
    history = load(config.history)
    n_steps = _check(config, history)
    folder = RunFolder(make_folder(), config.cells, describe(config, history))
    _write_summary(folder, config, history, "running")
    pool = Pool(_play, workers=workers, threads=config.threads, logs=folder.path)
    with display(config.cells, n_steps, workers) as shown:
        status = "interrupted"
        try:
            _play_all(pool, config, folder, shown)
            status = "failed" if folder.failures else "complete"
        finally:
            result = _write_summary(folder, config, history, status)
    return result


def describe(config: RunConfig, history: History) -> dict[str, Any]:
    """What goes to ``config.json``; ``config_hash`` is over all that determines the results."""
    determining = {
        "package_version": __version__,
        "arguments": _arguments(config, history),
        "history_digest": history.digest,
        "question_set_hash": history.questions.hash,
    }
    canonical = json.dumps(determining, sort_keys=True).encode()
    return {
        **determining,
        "config_hash": hashlib.sha256(canonical).hexdigest(),
        "environment": CHALLENGES[config.challenge],
        "history": {
            "name": history.name,
            "centuries": list(history.names),
            "synthetic": bool(history.provenance.get("synthetic", False)),
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@dataclass(frozen=True)
class _Task:
    config: RunConfig
    cell: Cell


def _play(task: _Task, report: Callable[[Any], None]) -> tuple[EpisodeRecord, float]:
    """Play one episode; runs in a process of the pool."""
    config, (name, seed) = task.config, task.cell
    began = time.perf_counter()
    env = config.make_env()
    try:
        agent = make_agent(
            name,
            challenge=config.challenge,
            history=config.history,
            steps_ahead=config.steps_ahead,
            seed=seed,
        )
        episode = play_episode(
            env,
            agent,
            seed,
            agent_name=name,
            on_step=lambda done, n_steps, century: report(("step", done, n_steps, century)),
            on_phase=lambda phase: report(("phase", phase)),
        )
    finally:
        env.close()
    return episode, time.perf_counter() - began


def _play_all(
    pool: Pool[_Task, tuple[EpisodeRecord, float]],
    config: RunConfig,
    folder: RunFolder,
    display: Display,
) -> None:
    cells = config.cells

    def on_report(index: int, report: tuple[Any, ...]) -> None:
        kind, *content = report
        show = display.step if kind == "step" else display.phase
        show(cells[index], *content)

    def on_end(index: int, outcome: tuple[EpisodeRecord, float] | Failure) -> None:
        cell = cells[index]
        if isinstance(outcome, Failure):
            folder.add_failure(cell, outcome)
            display.fail(cell, f"{outcome.error}: {outcome.message}")
        else:
            folder.add(cell, *outcome)
            display.finish(cell, outcome[0].score, outcome[1])

    tasks = [_Task(config, cell) for cell in cells]
    pool.run(
        tasks,
        on_start=lambda index: display.start(cells[index]),
        on_report=on_report,
        on_end=on_end,
    )


def _write_summary(
    folder: RunFolder, config: RunConfig, history: History, status: str
) -> RunResult:
    scores = {cell: episode.score for cell, episode in folder.episodes.items()}
    rows, notes = summarise(config.agents, config.seeds, scores, folder.seconds)
    result = RunResult(folder.path, config, history.name, rows, notes, dict(folder.failures))
    folder.write_summary({"status": status, **result.as_dict()})
    if folder.episodes:
        episodes = [folder.episodes[cell] for cell in config.cells if cell in folder.episodes]
        draw_trajectories(folder.path, history, config.agents, episodes)
    return result


def _check(config: RunConfig, history: History) -> int:
    """Let the environment and the agents check the rest of the arguments; steps an episode."""
    env = config.make_env()
    n_steps = int(env.unwrapped.n_steps)  # type: ignore[attr-defined]
    env.close()
    for name in config.agents:
        make_agent(
            name, challenge=config.challenge, history=history, steps_ahead=config.steps_ahead
        )
    return n_steps


def _check_distinct(name: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise InvalidArgumentError(f"{name} is empty; give at least one")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise InvalidArgumentError(f"{name}: {twice[0]!r} stands there twice; give each once")


def _arguments(config: RunConfig, history: History) -> dict[str, Any]:
    arguments = asdict(config)
    # A path is where it lies, not what it is; the digest says that.
    arguments["history"] = history.name
    return arguments


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
