"""Weights & Biases as a sink: one run an experiment, and nothing there stops the experiment.

Starting and finishing a run may have it wait, but no longer than :class:`WandbSink` says.

``wandb`` is imported when a run starts, not with this module. What the experiment writes itself
(``episodes.jsonl`` of a run folder) stays the truth; W&B gets a copy.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env.scoring import cosine
from progressgym_env.values.dimensions import DIMENSIONS
from progressgym_env.wrappers._wandb import (
    MODES,
    Attempt,
    TrackingWarning,
    check_mode,
    check_project,
    in_a_line,
    open_run,
    warn,
)

if TYPE_CHECKING:
    from wandb import Run, Table

__all__ = ["MODES", "VALUE_NAMES", "Century", "TrackingWarning", "WandbSink", "check_mode"]

VALUE_NAMES: tuple[str, ...] = tuple(d.label.replace(" / ", "-") for d in DIMENSIONS)
"""What the 19 values are called in W&B, after ``judge/``, ``examinee/`` or ``proxy/``."""

_EPISODES, _TIMESTEPS = "episodes", "timesteps"
_OVER_EPISODES = ("century/*", "judge/*", "examinee/*", "proxy/*", "episode/*", "score/*")
_DIALOGUE_COLUMNS: list[str | int] = ["episode", "century", "prompt", "reply"]
# W&B shows a hundred increments of a table. Sent when they have grown by a sixth, the rows of a
# million episodes make fewer.
_DIALOGUE_GROWTH = 6


@dataclass(frozen=True, eq=False)
class Century:
    """What a step of an episode is logged with.

    Attributes:
        index: of the century the agent acted in, 1 or more; also the number of steps done.
        name: of that century.
        reward: what the step paid.
        judge_values: (19,), the judge that the agent saw; in Coevolve the human proxy.
        examinee_values: (19,), after the step.
        proxy_values: (19,), the human proxy after the step; None outside Coevolve.
        n_examples: examples that the examinee was trained on.
    """

    index: int
    name: str
    reward: float
    judge_values: ArrayLike
    examinee_values: ArrayLike
    proxy_values: ArrayLike | None
    n_examples: int

    def metrics(self) -> dict[str, float | int | str]:
        """By name; ``century/cosine`` is that of the examinee and the judge."""
        people = {"judge": self.judge_values, "examinee": self.examinee_values}
        if self.proxy_values is not None:
            people["proxy"] = self.proxy_values
        row: dict[str, float | int | str] = {
            "century/index": self.index,
            "century/name": self.name,
            "century/reward": float(self.reward),
            "century/cosine": float(cosine(self.examinee_values, self.judge_values)),
            "century/examples": self.n_examples,
        }
        for who, values in people.items():
            numbers = np.asarray(values, dtype=np.float64)
            row.update({f"{who}/{n}": float(v) for n, v in zip(VALUE_NAMES, numbers, strict=True)})
        return row


class WandbSink:
    """One W&B run, for one experiment.

    The run starts with the first thing logged, or with :meth:`start`. Centuries and the ends of
    episodes are drawn over ``episodes``, the number of episodes played: the second of eight steps
    of the first episode stands at 0.25, that episode's score at 1. Training curves (:meth:`log`)
    are drawn over ``timesteps``.

    Without a key or a network the run goes offline; if that does not work either, nothing is
    logged. Once started, the first call that fails ends the logging. Each is said once, as a
    :class:`TrackingWarning`, and the experiment goes on: for nothing that W&B does is an error
    raised, and nobody is asked for a key. It may wait, though. Starting takes 5 seconds at most
    where nobody answers, finishing 30 where the upload is slow; ``WANDB_INIT_TIMEOUT`` and
    ``WANDB_FINISH_TIMEOUT`` change that.

    Args:
        project: None for the environment variable ``WANDB_PROJECT``, or ``"progressgym"``.
        mode: ``"online"``, ``"offline"``, or ``"disabled"``, which does nothing and needs no
            wandb; None for wandb's own setting (``WANDB_MODE``, else online).
        name: of the run; None lets W&B invent one.
        config: what the experiment depends on: arguments, versions, hashes.
        folder: where wandb makes its folder ``wandb``; None for ``WANDB_DIR``, or the present one.
        silent: whether not to say on stderr where the run is to be had.

    Raises:
        MissingPackageError: wandb is needed and not installed.
        InvalidArgumentError: ``project`` is no name that W&B takes.
        UnknownNameError: there is no such mode.
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        mode: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
        silent: bool = False,
    ) -> None:
        self._project = check_project(
            project if project is not None else os.environ.get("WANDB_PROJECT") or "progressgym"
        )
        self._mode = check_mode(mode)
        self._name = name
        self._config = dict(config or {})
        self._place = None if folder is None else Path(folder)
        self._silent = silent
        self._run: Run | None = None
        self._started = self._broken = False
        self._folder: Path | None = None
        self._url: str | None = None
        self._n_episodes = 0
        self._n_steps_done = 0
        self._dialogue: Table | None = None
        self._waiting: list[tuple[int, str, str, str]] = []
        self._n_sent = 0
        self._curves: set[str] = set()

    def __enter__(self) -> Self:
        """Start the run."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        """Finish the run, as failed if there was an error."""
        self.finish(failed=error is not None)

    @property
    def active(self) -> bool:
        """Whether what is logged goes anywhere."""
        return self._run is not None and not self._broken

    @property
    def folder(self) -> Path | None:
        """The run's own folder; None where nothing has been written."""
        return self._folder

    @property
    def where(self) -> str | None:
        """Where the run is to be had, in a line for people; None if nowhere."""
        if self._folder is None or self._url is not None:
            return self._url
        return f"offline; upload it with: wandb sync {self._folder}"

    def start(self) -> None:
        """Start the run; may wait as long as the class says. Does nothing the second time."""
        if self._started:
            return
        self._started = True
        if self._mode == "disabled":
            return
        error = self._open(self._mode)
        reason = error
        if error is not None and self._mode != "offline":
            error = self._open("offline")
        if error is not None:
            warn(f"W&B does not start ({in_a_line(error)}); nothing is logged there")
            return
        if reason is not None:
            warn(
                f"W&B is not available online ({in_a_line(reason)}): see to the network, or to the "
                f"key with `wandb login`. The run is logged {self.where}"
            )
        elif self.where is not None and not self._silent:
            sys.stderr.write(f"W&B: {self.where}\n")
        self._send(_define_axes)

    def begin_episode(self) -> None:
        """Say that another episode begins; what was logged of one that had no end, stays."""
        if self._n_steps_done:
            self._n_episodes, self._n_steps_done = self._n_episodes + 1, 0

    def log_century(
        self, century: Century, *, n_steps: int, labels: Mapping[str, str | int] | None = None
    ) -> None:
        """Log a step of an episode, while it goes on or afterwards.

        Args:
            century: what happened.
            n_steps: steps an episode takes.
            labels: go into the row as they are: the agent and the seed, say.
        """
        self._n_steps_done = century.index
        played = self._n_episodes + century.index / n_steps
        row = {_EPISODES: played, **(labels or {}), **century.metrics()}
        self._send(lambda run: run.log(row))

    def log_episode(
        self,
        score: float,
        episode_return: float,
        labels: Mapping[str, str | int] | None = None,
    ) -> None:
        """Log the end of an episode, and send its dialogue.

        Args:
            score: the official score.
            episode_return: the sum of the rewards.
            labels: go into the row as ``episode/...``; a label ``agent`` also gives every agent a
                curve of its own, ``score/AGENT``.
        """
        self._n_episodes, self._n_steps_done = self._n_episodes + 1, 0
        row: dict[str, float | int | str] = {
            _EPISODES: float(self._n_episodes),
            "episode/score": float(score),
            "episode/return": float(episode_return),
        }
        for key, label in (labels or {}).items():
            row[f"episode/{key}"] = label
            if key == "agent":
                row[f"score/{label}"] = float(score)
        self._send(lambda run: run.log(row))
        if len(self._waiting) * _DIALOGUE_GROWTH >= self._n_sent:
            self._send_dialogue()

    def log_dialogue(self, century: str, prompts: Sequence[str], replies: Sequence[str]) -> None:
        """Add a row a reply to the table ``dialogue``; it is sent when the episode has ended.

        Args:
            century: name of the century.
            prompts: n questions.
            replies: their n answers.
        """
        self.start()
        if self.active:
            rows = zip(prompts, replies, strict=True)
            self._waiting += [(self._n_episodes + 1, century, *row) for row in rows]

    def log_picture(self, name: str, picture: NDArray[np.uint8] | Path) -> None:
        """Log a picture, (H, W, 3) uint8 or a file, as ``name``."""

        def send(run: Run) -> None:
            import wandb

            run.log({name: wandb.Image(str(picture) if isinstance(picture, Path) else picture)})

        self._send(send)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log training curves over ``timesteps``.

        Args:
            metrics: numbers, by the names that they are to have in W&B.
            step: time steps of training done so far.
        """

        def send(run: Run) -> None:
            for key in metrics.keys() - self._curves:
                run.define_metric(key, step_metric=_TIMESTEPS)
                self._curves.add(key)
            run.log({_TIMESTEPS: int(step), **metrics})

        self._send(send)

    def summarise(self, values: Mapping[str, float | int | str]) -> None:
        """Set values of the run's summary, the columns of W&B's table of runs."""
        self._send(lambda run: run.summary.update(dict(values)))

    def finish(self, *, failed: bool = False) -> None:
        """Send what waits, and end the run. Does nothing the second time, or before the start.

        Online, waits for the upload, but no longer than the class says; the rest stays on disk.
        There wandb's own process may write the last of it a moment later; ``wandb.teardown()`` and
        the end of this process wait for that.

        Args:
            failed: whether the experiment came to no good end; W&B marks it so.
        """
        self._send_dialogue()
        self._started = True
        run, self._run = self._run, None
        if run is None:
            return
        attempt = Attempt()
        with attempt:
            run.finish(exit_code=int(failed))
        # Of a run that broke before, all was said then.
        if attempt.error is not None and not self._broken:
            warn(
                f"W&B has not got everything ({in_a_line(attempt.error)}); upload the rest with: "
                f"wandb sync {self._folder}"
            )

    def _open(self, mode: str | None) -> Exception | None:
        """Start a run in ``mode``; what went wrong."""
        attempt = Attempt()
        with attempt:
            run = open_run(
                mode,
                project=self._project,
                name=self._name,
                config=self._config,
                folder=self._place,
                silent=self._silent,
            )
            # wandb's own setting may be to do nothing.
            if not run.disabled:
                self._folder = Path(run.dir).parent
                self._url = None if run.offline else run.url
                self._run = run
        return attempt.error

    def _send_dialogue(self) -> None:
        rows, self._waiting = self._waiting, []
        if not rows:
            return

        def send(run: Run) -> None:
            import wandb

            if self._dialogue is None:
                self._dialogue = wandb.Table(_DIALOGUE_COLUMNS, log_mode="INCREMENTAL")
            for row in rows:
                self._dialogue.add_data(*row)
            run.log({"dialogue": self._dialogue})

        self._send(send)
        self._n_sent += len(rows)

    def _send(self, act: Callable[[Run], object]) -> None:
        """Do something with the run, if there is one to do it with."""
        self.start()
        run = self._run
        if run is None or self._broken:
            return
        attempt = Attempt()
        with attempt:
            act(run)
        if attempt.error is not None:
            # What broke will hardly mend, and every further call could cost time.
            self._broken = True
            warn(
                f"W&B has stopped ({in_a_line(attempt.error)}); nothing more is logged there. "
                f"What it got before lies in {self._folder}"
            )


def _define_axes(run: Run) -> None:
    run.define_metric(_EPISODES)
    run.define_metric(_TIMESTEPS)
    for names in _OVER_EPISODES:
        run.define_metric(names, step_metric=_EPISODES)
