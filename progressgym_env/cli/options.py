"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Device", "EngineName", "Json"]

Device = Annotated[
    str,
    typer.Option(metavar="DEVICE", help="Where language models run: auto, cpu, cuda, cuda:1, ..."),
]
EngineName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What measures and replies: transformers, or vllm in a process of its own.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
