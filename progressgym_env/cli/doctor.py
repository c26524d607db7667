"""``progressgym doctor``: what this machine can run."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from progressgym_env.cli import app
from progressgym_env.cli.errors import clean_errors
from progressgym_env.cli.options import Json

__all__ = ["doctor"]


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can run: devices, memory, extras, the hub, and each history."""
    with clean_errors():
        from progressgym_env.benchmarks.doctor import examine, findings_table

        found = examine()
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        console = Console()
        for part in findings_table(found):
            console.print(part)
