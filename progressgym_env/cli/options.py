"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Device", "Json"]

Device = Annotated[
    str,
    typer.Option(metavar="DEVICE", help="Where language models run: auto, cpu, cuda, cuda:1, ..."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
