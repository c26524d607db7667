"""Runs: agents × seeds on one challenge, episodes side by side, results in a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from progressgym_env.benchmarks.bench import MakeDisplay, play_matrix
from progressgym_env.benchmarks.config import RunConfig
from progressgym_env.benchmarks.defaults import DEFAULT_AGENTS
from progressgym_env.benchmarks.display import Silence
from progressgym_env.benchmarks.machine import available_cores
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.plots import draw_trajectories
from progressgym_env.benchmarks.pool import Failure
from progressgym_env.benchmarks.run_folder import RunFolder
from progressgym_env.benchmarks.summary import Row, summarise
from progressgym_env.benchmarks.tracking import RunTracker
from progressgym_env.histories.history import History
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
                {"agent": cell.agent, "seed": cell.seed, "error": f.error, "message": f.message}
                for cell, f in self.failures.items()
            ],
        }


def run(
    config: RunConfig,
    make_folder: Callable[[], Path],
    *,
    workers: int | None = None,
    display: MakeDisplay = lambda *_: Silence(),
    wandb: str = "disabled",
) -> RunResult:
    """Play all episodes of ``config`` and write the run folder; see ``play_matrix``.

    Args:
        config: what to play.
        make_folder: makes the run folder; called once all arguments are checked.
        workers: processes side by side, at least 1.
        display: makes the display, from the episodes, the steps of each, and ``workers``.
        wandb: ``"online"``, ``"offline"`` or ``"disabled"``: whether the run is logged to Weights &
            Biases as well, as one W&B run, from the run folder. Changes nothing else that is
            written, and stops no run (see ``WandbSink``).

    Raises:
        ProgressGymError: an argument is wrong, or wandb is missing; nothing was played or written.
        KeyboardInterrupt: after tidying up.
    """
    check_mode(wandb)
    hooks = _RunHooks(config, wandb)
    try:
        play_matrix(config.matrix, hooks, make_folder=make_folder, workers=workers, display=display)
    except BaseException:
        hooks.close(failed=True)
        raise
    hooks.close(failed=False)
    return replace(hooks.result, wandb=hooks.where)


class _RunHooks:
    """Table, picture and W&B of a run."""

    result: RunResult

    def __init__(self, config: RunConfig, wandb: str) -> None:
        self._config, self._wandb = config, wandb
        self._tracker: RunTracker | None = None

    @property
    def where(self) -> str | None:
        """Where W&B has the run."""
        return None if self._tracker is None else self._tracker.where

    def opened(self, folder: RunFolder, history: History, described: Mapping[str, Any]) -> None:
        """Start the W&B run."""
        self._folder, self._history = folder, history
        sink = WandbSink(
            mode=self._wandb,
            name=folder.path.name,
            config=dict(described),
            folder=folder.path,
            silent=True,
        )
        self._tracker = RunTracker(sink, folder)
        self._tracker.start()

    def ended(self, cell: Cell) -> None:
        """Log what has ended."""
        assert self._tracker is not None
        self._tracker.update()

    def summary(self, status: str) -> Mapping[str, Any]:
        """The table; at the end, the picture too."""
        config, folder = self._config, self._folder
        scores = {(cell.agent, cell.seed): score for cell, score in folder.scores.items()}
        seconds = {
            (cell.agent, cell.seed): timing["seconds"] for cell, timing in folder.timings.items()
        }
        rows, notes = summarise(config.agents, config.seeds, scores, seconds)
        failures = dict(folder.failures)
        self.result = RunResult(folder.path, config, self._history.name, rows, notes, failures)
        if status != "running":
            self._draw()
            assert self._tracker is not None
            self._tracker.conclude(rows)
        return {"status": status, **self.result.as_dict()}

    def close(self, *, failed: bool) -> None:
        """Finish the W&B run, if one was started."""
        if self._tracker is not None:
            self._tracker.finish(failed=failed or bool(self._folder.failures))

    def _draw(self) -> None:
        folder, config = self._folder, self._config
        cells = [cell for cell in folder.cells if cell in folder.scores]
        if "history_seed" in self._history.provenance:
            # Every seed has a history of its own: the picture is of the first one.
            cells = [cell for cell in cells if cell.seed == config.seeds[0]]
        if cells:
            episodes = [folder.episode(cell) for cell in cells]
            draw_trajectories(folder.path, self._history, config.agents, episodes)
