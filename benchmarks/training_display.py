"""What is shown and logged while a policy is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from progressgym_env.agents.training import TrainConfig
from progressgym_env.benchmarks.train import describe
from progressgym_env.wrappers.wandb_curves import sb3_output_format
from progressgym_env.wrappers.wandb_sink import WandbSink

__all__ = ["TrainingTracker", "training_progress", "training_tracker"]


@contextmanager
def training_progress(
    console: Console, config: TrainConfig, *, quiet: bool
) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Lend a function to be told the points of the learning curve; shows a bar, or lines."""
    if quiet:
        yield lambda point: None
        return
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda point: console.print(Text(_line(point)), soft_wrap=True)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    ) as bars:
        steps = int(config.settings["segment"])
        task = bars.add_task("training", total=config.n_segments * steps)

        def tell(point: Mapping[str, float]) -> None:
            described = f"score {point['score']:.4f} ± {point['standard_error']:.4f}"
            bars.update(task, completed=point["steps"], description=described)

        yield tell


class TrainingTracker:
    """Logs a training to a sink: Stable-Baselines3's curves, scores on fresh histories, the end.

    Args:
        sink: where everything goes; it starts with the first thing logged.
    """

    def __init__(self, sink: WandbSink) -> None:
        self._sink = sink
        self._logged = False

    @property
    def where(self) -> str | None:
        """Where the run is to be had, in a line for people; None if nowhere."""
        return self._sink.where

    def rollout(self, model: Any) -> None:
        """Add the sink to the outputs of SB3's logger, when there first is one."""
        self._sink.start()
        if self._sink.active and not self._logged:
            model.logger.output_formats.append(sb3_output_format(self._sink))
            self._logged = True

    def point(self, point: Mapping[str, float]) -> None:
        """Log a point of the learning curve."""
        scores = {f"fresh histories/{key}": point[key] for key in ("score", "standard_error")}
        self._sink.log(scores, int(point["steps"]))
        # SB3 makes a new logger for every segment.
        self._logged = False

    def conclude(self, summary: Mapping[str, Any], curve: Path) -> None:
        """Log how the policy compares, and the picture of its learning curve.

        Args:
            summary: of the training, as ``summary.json`` holds it.
            curve: a picture file.
        """
        ahead = {f"ahead of/{row['agent']}": row["ahead"] for row in summary["compared"]}
        self._sink.summarise({"score": summary["score"], **ahead})
        self._sink.log_picture("curve", curve)


@contextmanager
def training_tracker(config: TrainConfig, folder: Path, mode: str) -> Iterator[TrainingTracker]:
    """Lend a tracker whose W&B run lasts as long as the training.

    The sink takes no run's id: a training that is resumed goes on in another run of the same name.
    Both are drawn over the steps of the whole training.
    """
    sink = WandbSink(
        mode=mode, name=folder.name, config=describe(config), folder=folder, silent=True
    )
    with ExitStack() as stack:
        # Finished at the end, but not started yet: that makes a folder.
        stack.push(sink)
        yield TrainingTracker(sink)


def _line(point: Mapping[str, float]) -> str:
    return (
        f"[{point['seconds']:7.0f} s] {point['steps']:>12,.0f} steps: "
        f"score {point['score']:.4f} ± {point['standard_error']:.4f}"
    )
