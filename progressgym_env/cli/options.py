"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "Device",
    "EngineName",
    "GpuMemoryUtilization",
    "Json",
    "Launch",
    "QuestionsOption",
    "TensorParallelSize",
]

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
TensorParallelSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="vLLM only: GPUs that the model is spread over. Results depend on it in the last "
        "digits.",
        show_default="1",
    ),
]
GpuMemoryUtilization = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="vLLM only: share of each GPU's memory that vLLM takes; training has the rest.",
        show_default="0.45",
    ),
]
Launch = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="What sft, dpo and imitation are launched with: fsdp for all GPUs, or a command such "
        "as 'accelerate launch --config_file my.yaml'.",
        show_default="they train in the episode's process",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
QuestionsOption = Annotated[
    str | None,
    typer.Option(
        "--questions",
        metavar="QUESTIONS",
        help="The history measured with these: own, moralevals, or the path of question files.",
        show_default="those it was measured with",
    ),
]
