"""``progressgym history build``: make a history out of text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from progressgym_env.cli.errors import clean_errors
from progressgym_env.cli.options import Device

if TYPE_CHECKING:
    from progressgym_env.histories.text.recipe import Recipe

__all__ = ["build_from_text"]


def build_from_text(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A TOML file, or histtext-small."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the history; one that was left half-way is gone on with.",
            show_default="the recipe's name",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="A file, folder or pattern to read in place of the recipe's sources; repeatable.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="SEED",
            help="The same seed builds the same.",
            show_default="the recipe's",
        ),
    ] = None,
    stop_after: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Stop after text, base, pretrain or instruct; the same command goes on later.",
            show_default="build all",
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Make a history out of text: clean it, train a model a century, measure them.

    The recipe says which text, which model to start from, and how to train; docs/build-a-history.md
    has them all. Interrupted, the same command goes on where it was.
    """
    with clean_errors(writes=out):
        from progressgym_env.histories.text.recipe import read_recipe

        found = _changed(read_recipe(recipe), text, seed)
        from progressgym_env.benchmarks.clock import span
        from progressgym_env.benchmarks.display import stage_progress
        from progressgym_env.histories.text.build import build_history, stage_seconds

        folder = out or Path(found.name)
        with stage_progress(Console(stderr=True)) as progress:
            history = build_history(
                found, folder, device=device, progress=progress, stop_after=stop_after
            )
        if history is None:
            typer.echo(f"Stopped after {stop_after}: {folder}")
            typer.echo("The same command without --stop-after goes on.")
            return
        seconds = stage_seconds(folder)
        typer.echo(f"Built {history.n_centuries} centuries: {folder}")
        if seconds:
            told = ", ".join(f"{stage} {span(time)}" for stage, time in seconds.items())
            typer.echo(f"Time: {told}; {span(sum(seconds.values()))} in all")
        typer.echo(f"Look at it with: progressgym history inspect {folder}")
        typer.echo(f"Play it with: progressgym run --history {folder}")


def _changed(recipe: Recipe, text: list[str] | None, seed: int | None) -> Recipe:
    from dataclasses import replace

    if text:
        # The user sees them from here, a recipe from its folder.
        sources = tuple(
            s if s.startswith("hub:") else os.path.relpath(s, recipe.root) for s in text
        )
        recipe = replace(recipe, text=replace(recipe.text, sources=sources))
    return recipe if seed is None else replace(recipe, seed=seed)
