"""``progressgym report``: a page and pictures made from a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from progressgym_env.cli import app
from progressgym_env.cli.errors import clean_errors

__all__ = ["report"]


@app.command()
def report(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A folder that `bench` or `run` made, whole or not."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the report: new, empty, or an earlier report, which is replaced.",
            show_default="RUN/report",
        ),
    ] = None,
) -> None:
    """Make a page of a run: leaderboard, comparisons, values, distances and dialogue.

    index.html needs nothing beside it and no network; pictures are written as PNG and SVG, too.
    The same run folder gives the same bytes.
    """
    with clean_errors(writes=out or run / "report"):
        from progressgym_env.benchmarks.report import make_report

        page = make_report(run, out)
        typer.echo(f"Report: {page}")
