"""Runs: agents × seeds on one challenge, episodes side by side, results in a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from progressgym_env.agents import make_agent
from progressgym_env.benchmarks.config import RunConfig, describe
from progressgym_env.benchmarks.defaults import DEFAULT_AGENTS
from progressgym_env.benchmarks.display import Display, Silence
from progressgym_env.benchmarks.episodes import EpisodeRecord, play_episode
from progressgym_env.benchmarks.machine import available_cores
from progressgym_env.benchmarks.plots import draw_trajectories
from progressgym_env.benchmarks.pool import Failure, Pool
from progressgym_env.benchmarks.run_folder import Cell, RunFolder
from progressgym_env.benchmarks.summary import Row, summarise
from progressgym_env.benchmarks.tracking import RunTracker
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load_one
from progressgym_env.wrappers.wandb_sink import WandbSink, check_mode

__all__ = ["DEFAULT_AGENTS", "RunConfig", "RunResult", "available_cores", "run"]


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
        wandb: where W&B has the run; None where it has nothing.
    """

    folder: Path
    config: RunConfig
    history_name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    failures: dict[Cell, Failure] = field(default_factory=dict)
    wandb: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON-able values; ``steps_ahead`` is None outside Predict."""
        return {
            "folder": str(self.folder),
            "challenge": self.config.challenge,
            "history": self.history_name,
            "update": self.config.update,
            "update_from": self.config.update_from,
            "steps_ahead": self.config.steps_ahead if self.config.challenge == "predict" else None,
            "seeds": list(self.config.seeds),
            "rows": [row.as_dict() for row in self.rows],
            "notes": list(self.notes),
            "failures": [
                {"agent": agent, "seed": seed, "error": f.error, "message": f.message}
                for (agent, seed), f in self.failures.items()
            ],
        }


def default_workers(config: RunConfig) -> int:
    """Processes side by side: as many as there are cores for, and episodes to play."""
    return max(1, min(len(config.cells), available_cores() // config.threads))


def run(
    config: RunConfig,
    make_folder: Callable[[], Path],
    *,
    workers: int | None = None,
    display: Callable[[tuple[Cell, ...], int, int], Display] = lambda *_: Silence(),
    wandb: str = "disabled",
) -> RunResult:
    """Play all episodes of ``config`` and write the run folder.

    An episode that fails is written down with its error, and the others go on. On
    KeyboardInterrupt all processes end, what is finished stays in the folder, and
    ``summary.json`` says ``"interrupted"``; on any other error ``"failed"``, as it does where an
    episode failed.

    Args:
        config: what to play.
        make_folder: makes the run folder; called once all arguments are checked, so that a
            mistake leaves no folder behind.
        workers: processes side by side, at least 1; see ``default_workers``.
        display: makes the display, from the episodes, the steps of each, and ``workers``.
        wandb: ``"online"``, ``"offline"`` or ``"disabled"``: whether the run is logged to Weights &
            Biases as well, as one W&B run, from the run folder. Changes nothing else that is
            written, and stops no run (see ``WandbSink``).

    Raises:
        ProgressGymError: an argument is wrong, or wandb is missing; nothing was played or written.
        KeyboardInterrupt: after tidying up.
    """
    workers = default_workers(config) if workers is None else workers
    if workers < 1:
        raise InvalidArgumentError(f"workers={workers} must be 1 or more")
    check_mode(wandb)
    # Of simulated histories, that of the first seed stands for all in pictures and tables.
    history = load_one(config.history, config.seeds[0])
    n_steps = _check(config, history)
    described = describe(config, history)
    folder = RunFolder(make_folder(), config.cells, described)
    sink = WandbSink(
        mode=wandb, name=folder.path.name, config=described, folder=folder.path, silent=True
    )
    pool = Pool(_play, workers=workers, threads=config.threads, logs=folder.path)
    with (
        RunTracker(sink, folder, config.cells) as tracker,
        _Conclusion(folder, config, history, tracker) as conclusion,
    ):
        _write_summary(folder, config, history, "running")
        with display(config.cells, n_steps, workers) as shown:
            _play_all(pool, config, folder, shown, tracker)
    return replace(conclusion.result, wandb=tracker.where)


class _Conclusion:
    """Writes the summary when the playing ends, however it ends."""

    result: RunResult

    def __init__(
        self, folder: RunFolder, config: RunConfig, history: History, tracker: RunTracker
    ) -> None:
        self._folder = folder
        self._tracker = tracker
        self._config = config
        self._history = history

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        status = "complete" if error is None and not self._folder.failures else "failed"
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        try:
            self.result = _write_summary(self._folder, self._config, self._history, status)
            self._tracker.conclude(self.result.rows)
        finally:
            if error is not None:
                # What went wrong first is the one to tell, even if the writing fails after it.
                raise error


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
            history=load_one(config.history, seed),
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
    tracker: RunTracker,
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
        tracker.update()

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
        if "history_seed" in history.provenance:
            # Every seed has a history of its own: the picture is of the first one.
            episodes = [episode for episode in episodes if episode.seed == config.seeds[0]]
        if episodes:
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
    if config.device not in ("auto", "cpu"):
        # Imported here: it loads torch, and only these devices can be missing.
        from progressgym_env.models.language import resolve_device

        resolve_device(config.device)
    return n_steps
