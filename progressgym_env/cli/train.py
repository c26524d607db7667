"""``progressgym train``: a policy by reinforcement learning on simulated histories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from progressgym_env.cli import app
from progressgym_env.cli.errors import clean_errors

if TYPE_CHECKING:
    from progressgym_env.agents.training import TrainConfig

__all__ = ["train"]


@app.command()
def train(
    algorithm: Annotated[
        str, typer.Option(metavar="NAME", help="Stable-Baselines3's: ppo or sac.")
    ] = "ppo",
    challenge: Annotated[
        str, typer.Option(metavar="NAME", help="follow, predict or coevolve.")
    ] = "coevolve",
    history: Annotated[
        str, typer.Option(metavar="HISTORY", help="Simulated histories to train on.")
    ] = "simulated-train",
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Environment steps.", show_default="as tuned for ten minutes"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="Decides everything.")] = 0,
    steps_ahead: Annotated[
        int, typer.Option(metavar="K", help="Predict only: how many centuries ahead to be.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the policy, new or empty; with --resume, the one to go on in.",
            show_default="runs/train-CHALLENGE-ALGORITHM-NUMBER",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="Threads of torch.")] = 1,
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
        import torch

        from progressgym_env.agents.training import TrainConfig, default_steps
        from progressgym_env.benchmarks.tables import comparison_table

        torch.set_num_threads(threads)
        config = TrainConfig(
            algorithm=algorithm,
            challenge=challenge,
            history=history,
            total_steps=default_steps(algorithm, challenge) if steps is None else steps,
            seed=seed,
            steps_ahead=steps_ahead,
        )
        folder = _folder(config, out, resume)
        summary = _trained(config, folder, resume=resume, wandb=wandb, quiet=quiet)
        if as_json:
            typer.echo(json.dumps(summary, indent=2))
            return
        console = Console()
        console.print(comparison_table(summary))
        console.print(f"Policy: {folder / 'policy'}", markup=False, highlight=False, soft_wrap=True)


def _folder(config: TrainConfig, out: Path | None, resume: bool) -> Path:
    from progressgym_env.errors import InvalidArgumentError
    from progressgym_env.files import new_folder, numbered_folder

    if resume:
        if out is None:
            raise InvalidArgumentError("--resume needs --out: the folder of the stopped training")
        return out
    if out is not None:
        return new_folder(out)
    return numbered_folder("runs", f"train-{config.challenge}-{config.algorithm}")


def _trained(
    config: TrainConfig, folder: Path, *, resume: bool, wandb: str, quiet: bool
) -> dict[str, Any]:
    from progressgym_env.benchmarks.tracking import tracking_warnings
    from progressgym_env.benchmarks.train import train as run
    from progressgym_env.benchmarks.training_display import training_progress, training_tracker

    console = Console(stderr=True)
    with (
        tracking_warnings(console),
        training_tracker(config, folder, wandb) as tracker,
        training_progress(console, config, quiet=quiet) as progress,
    ):

        def on_point(point: Any) -> None:
            progress(point)
            tracker.point(point)

        return run(config, folder, resume=resume, on_point=on_point, on_rollout=tracker.rollout)
