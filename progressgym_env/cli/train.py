"""``progressgym train``: a policy by reinforcement learning on simulated histories."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from progressgym_env.cli import app
from progressgym_env.cli.errors import clean_errors

if TYPE_CHECKING:
    from progressgym_env.agents.training import TrainConfig

__all__ = ["train"]

# Why a training that has begun cannot be given another number.
_REASONS = {
    "total_steps": ": the learning rate falls over all steps, from the first one on",
    "threads": ": sums depend on how they are split, and the weights on them",
}


@app.command()
def train(
    algorithm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Stable-Baselines3's: ppo or sac.", show_default="ppo"),
    ] = None,
    challenge: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="follow, predict or coevolve.", show_default="coevolve"),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="HISTORY",
            help="Simulated histories to train on.",
            show_default="simulated-train",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Environment steps.", show_default="as tuned for ten minutes"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="SEED", help="Decides everything.", show_default="0"),
    ] = None,
    steps_ahead: Annotated[
        int | None,
        typer.Option(
            metavar="K", help="Predict only: how many centuries ahead to be.", show_default="1"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the policy, new or empty; with --resume, the one to go on in.",
            show_default="runs/train-CHALLENGE-ALGORITHM-NUMBER",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on in --out, which says by itself what was being trained."
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Threads of torch. Another number gives other weights.",
            show_default="1",
        ),
    ] = None,
    wandb: Annotated[
        str,
        typer.Option(
            metavar="MODE", help="Log to Weights & Biases as well: online, offline or disabled."
        ),
    ] = "disabled",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Train a policy on simulated histories, and compare it on histories it has never met.

    Checkpoints are written as it goes; stopped, it goes on with --resume to the same policy.
    """
    with clean_errors(writes=out):
        from progressgym_env.wrappers.wandb_sink import check_mode

        check_mode(wandb)
        asked: dict[str, Any] = {
            "algorithm": algorithm,
            "challenge": None if challenge is None else challenge.strip().lower(),
            "history": history,
            "total_steps": steps,
            "seed": seed,
            "steps_ahead": steps_ahead,
            "threads": threads,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        config, folder = _resumed(out, given) if resume else _new(out, given)
        summary, where = _trained(config, folder, resume=resume, wandb=wandb, quiet=quiet)
        _print_summary(summary, folder, where, as_json=as_json)


def _new(out: Path | None, given: Mapping[str, Any]) -> tuple[TrainConfig, Path]:
    """What to train, and where; a mistake leaves no folder behind."""
    from progressgym_env.agents.training import TrainConfig, default_steps
    from progressgym_env.files import new_folder, numbered_folder

    config = TrainConfig(**given)
    if "total_steps" not in given:
        config = replace(config, total_steps=default_steps(config.algorithm, config.challenge))
    if out is not None:
        return config, new_folder(out)
    return config, numbered_folder("runs", f"train-{config.challenge}-{config.algorithm}")


def _resumed(out: Path | None, given: Mapping[str, Any]) -> tuple[TrainConfig, Path]:
    """What was being trained in a folder; options may repeat it and no more."""
    from progressgym_env.benchmarks.train import read_config
    from progressgym_env.errors import InvalidArgumentError

    if out is None:
        raise InvalidArgumentError("--resume needs --out: the folder of the stopped training")
    config = read_config(out)
    for name, value in given.items():
        option = "--steps" if name == "total_steps" else f"--{name.replace('_', '-')}"
        if value != getattr(config, name):
            raise InvalidArgumentError(
                f"{option} {value} contradicts the training in {out}, which has "
                f"{getattr(config, name)}{_REASONS.get(name, '')}; leave {option} out to go on "
                "with it, or train into another folder"
            )
    return config, out


def _trained(
    config: TrainConfig, folder: Path, *, resume: bool, wandb: str, quiet: bool
) -> tuple[dict[str, Any], str | None]:
    """The summary, and where W&B has the run."""
    from progressgym_env.benchmarks.tracking import tracking_warnings
    from progressgym_env.benchmarks.train import CONFIG_FILE, PICTURE_FILE
    from progressgym_env.benchmarks.train import train as run
    from progressgym_env.benchmarks.training_display import training_progress, training_tracker

    console = Console(stderr=True)

    def on_point(point: Any) -> None:
        progress(point)
        tracker.point(point)

    try:
        with (
            tracking_warnings(console),
            training_tracker(config, folder, wandb) as tracker,
            training_progress(console, config, quiet=quiet) as progress,
        ):
            summary = run(
                config, folder, resume=resume, on_point=on_point, on_rollout=tracker.rollout
            )
            tracker.conclude(summary, folder / PICTURE_FILE)
    except KeyboardInterrupt:
        # Before that, there is nothing to go on with.
        if (folder / CONFIG_FILE).is_file():
            console.print(Text(_how_to_go_on(folder, wandb)), soft_wrap=True)
        raise
    return summary, tracker.where


def _how_to_go_on(folder: Path, wandb: str) -> str:
    command = ["progressgym", "train", "--resume", "--out", str(folder)]
    if wandb != "disabled":
        command += ["--wandb", wandb]
    return f"What is trained stands in {folder}; go on with: {shlex.join(command)}"


def _print_summary(
    summary: Mapping[str, Any], folder: Path, where: str | None, *, as_json: bool
) -> None:
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    from progressgym_env.benchmarks.tables import comparison_table

    console = Console()
    console.print(comparison_table(summary))
    lines = [f"Policy: {folder / 'policy'}", *([] if where is None else [f"W&B: {where}"])]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
