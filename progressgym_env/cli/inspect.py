"""``progressgym history inspect``: what the text of a history is like."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from progressgym_env.cli.errors import clean_errors
from progressgym_env.cli.options import Device, Json

if TYPE_CHECKING:
    from progressgym_env.histories.text.analysis import TextAnalysis

__all__ = ["inspect_history"]


def inspect_history(
    history: Annotated[
        str, typer.Argument(metavar="PATH", help="The folder of a history built from text.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for pictures, as PNG and SVG; files of the same names are replaced.",
            show_default="no pictures",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="A file, folder or pattern of other text, for the models to predict; repeatable.",
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show the text that a history was built from, and what its models learnt from it.

    The build stores the analysis. Where it is missing it is made from the stored passages, without
    models and so without perplexities, and not stored. With --text, only perplexities are shown:
    those of every century's model on that text, which may be text that no model has seen.
    """
    with clean_errors(writes=out):
        if text:
            _score(history, text, out, device, as_json)
            return
        from progressgym_env.histories.folder import HISTORY_FILE, read_header
        from progressgym_env.histories.text.inspecting import analysis_of, folder_of, values_of

        folder = folder_of(history)
        analysis, stored = analysis_of(folder)
        values = values_of(folder)
        if not stored:
            Console(stderr=True).print(
                "Analysed the stored passages anew; perplexities need models and are measured by "
                "the build.",
                soft_wrap=True,
            )
        if out is not None:
            named = (folder / HISTORY_FILE).is_file()
            _draw(out, analysis, read_header(folder).name if named else folder.name)
        if as_json:
            told = analysis.to_dict()
            told["values"] = None if values is None else asdict(values)
            typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
            return
        from progressgym_env.benchmarks.text_display import text_parts, values_parts
        from progressgym_env.histories.loading import load_one

        parts = text_parts(analysis)
        if (folder / HISTORY_FILE).is_file():
            parts += values_parts(load_one(str(folder)), values)
        _print(parts)


def _score(history: str, sources: list[str], out: Path | None, device: str, as_json: bool) -> None:
    from progressgym_env.benchmarks.display import stage_progress
    from progressgym_env.benchmarks.text_display import split_parts
    from progressgym_env.benchmarks.text_plots import draw_perplexity
    from progressgym_env.histories.loading import load_one
    from progressgym_env.histories.text.fields import encode
    from progressgym_env.histories.text.inspecting import left_out_of, score_text

    loaded, told = load_one(history), Console(stderr=True)
    with stage_progress(told) as progress:
        table, report = score_text(loaded, sources, device=device, progress=progress)
    if left_out := left_out_of(report):
        told.print(f"Not used: {left_out}", soft_wrap=True, markup=False, highlight=False)
    if out is not None:
        draw_perplexity(out, table, loaded.name)
    if as_json:
        typer.echo(json.dumps(encode(table), indent=2, ensure_ascii=False))
        return
    _print(split_parts("Perplexity per token: the text given", table))


def _print(parts: Iterable[Any]) -> None:
    console = Console()
    for part in parts:
        console.print(part)


def _draw(out: Path, analysis: TextAnalysis, name: str) -> None:
    from progressgym_env.benchmarks.text_plots import draw_text

    out.mkdir(parents=True, exist_ok=True)
    draw_text(out, analysis, name)
    Console(stderr=True).print(f"Drawn: {out}", soft_wrap=True, markup=False, highlight=False)
