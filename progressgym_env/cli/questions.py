"""``progressgym questions``: what a question set asks, and what was wrong with its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from progressgym_env.cli import Json, app
from progressgym_env.cli.errors import clean_errors

__all__ = ["questions"]


@app.command()
def questions(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A question set: own or moralevals.")
    ] = "own",
    path: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where its files lie.",
            show_default="the package, the cache, or where they are published",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count the questions of every dimension; name every row that was repaired or dropped.

    A history is measured with one set; `progressgym run --questions` chooses among several.
    """
    with clean_errors():
        from progressgym_env.benchmarks.tables import questions_dict, questions_table
        from progressgym_env.values import load_questions

        found = load_questions(name, path)
        told = questions_dict(found)
        if as_json:
            typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
            return
        Console().print(questions_table(found))
        typer.echo(
            f"{told['eval']} questions are scored, {told['train']} trained on ({told['pairs']} "
            "pairs); one may bear on several dimensions."
        )
        for finding in told["findings"]:
            typer.echo(finding)
