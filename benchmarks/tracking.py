"""Runs in Weights & Biases: what a run folder holds, told to a sink."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.text import Text

from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.run_folder import RunFolder
from progressgym_env.benchmarks.summary import Row
from progressgym_env.wrappers.wandb_sink import Century, TrackingWarning, WandbSink

__all__ = ["RunTracker", "tracking_warnings"]


class RunTracker:
    """Logs the episodes of a run folder in their order there, whichever ends first."""

    def __init__(self, sink: WandbSink, folder: RunFolder) -> None:
        """Prepare; nothing is started yet.

        Args:
            sink: where everything goes.
            folder: where the episodes are.
        """
        self._sink = sink
        self._folder = folder
        self._waiting = list(folder.cells)

    def start(self) -> None:
        """Start the sink's run."""
        self._sink.start()

    def finish(self, *, failed: bool) -> None:
        """Finish the sink's run."""
        self._sink.finish(failed=failed)

    @property
    def where(self) -> str | None:
        """Where the run is to be had, in a line for people; None if nowhere."""
        return self._sink.where

    def update(self) -> None:
        """Log the episodes that have ended, up to the first that has not."""
        while self._waiting and (
            self._waiting[0] in self._folder.scores or self._waiting[0] in self._folder.failures
        ):
            self._log(self._waiting.pop(0))

    def conclude(self, rows: Sequence[Row]) -> None:
        """Log what else there is: episodes behind one that never ended, the table, the picture."""
        while self._waiting:
            self._log(self._waiting.pop(0))
        means = {f"mean score/{row.agent}": row.score.mean for row in rows if row.score is not None}
        skills = {f"skill/{row.agent}": row.skill.mean for row in rows if row.skill is not None}
        self._sink.summarise({**means, **skills})
        picture = self._folder.path / "trajectories.png"
        if picture.is_file():
            self._sink.log_picture("trajectories", picture)

    def _log(self, cell: Cell) -> None:
        if cell not in self._folder.scores:
            return
        episode = self._folder.episode(cell)
        score = self._folder.scores[cell]
        labels: dict[str, str | int] = {"agent": episode.agent, "seed": episode.seed}
        for step, century in zip(episode.steps, _centuries(episode), strict=True):
            prompts, replies = zip(*step.dialogue, strict=True) if step.dialogue else ((), ())
            self._sink.log_dialogue(step.century, prompts, replies)
            self._sink.log_century(century, n_steps=len(episode.steps), labels=labels)
        self._sink.log_episode(score, episode.episode_return, labels)


@contextmanager
def tracking_warnings(console: Console) -> Iterator[None]:
    """Print what W&B could not do on ``console``, in a line, instead of as a Python warning."""

    def route(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, TrackingWarning):
            console.print(Text(f"warning: {message}", style="yellow"), soft_wrap=True)
        else:
            others(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", TrackingWarning)
        others = warnings.showwarning
        warnings.showwarning = route
        yield


def _centuries(episode: EpisodeRecord) -> Iterator[Century]:
    for index, step in enumerate(episode.steps, start=1):
        yield Century(
            index=index,
            name=step.century,
            reward=step.reward,
            judge_values=step.judge_values,
            examinee_values=step.examinee_values,
            proxy_values=step.proxy_values,
            n_examples=step.n_examples,
        )
