"""``progressgym history``: look at histories, build them, prepare and measure them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from progressgym_env.cli.build import build_from_text
from progressgym_env.cli.errors import clean_errors
from progressgym_env.cli.inspect import inspect_history
from progressgym_env.cli.options import Device, Json, QuestionsOption

__all__ = ["history_app"]

history_app = typer.Typer(help="Look at histories, and build them.", no_args_is_help=True)
history_app.command("build")(build_from_text)
history_app.command("inspect")(inspect_history)


@history_app.command("show")
def show_history(
    name: Annotated[str, typer.Argument(help="A history's name, or the path of its folder.")],
    questions: QuestionsOption = None,
    as_json: Json = False,
) -> None:
    """Print what a history's people value, century by century, and where it comes from."""
    with clean_errors():
        from progressgym_env.benchmarks.tables import history_dict, history_parts
        from progressgym_env.histories.loading import load_one

        history = load_one(name, questions=questions)
        if as_json:
            typer.echo(json.dumps(history_dict(history), indent=2, ensure_ascii=False))
            return
        console = Console()
        for part in history_parts(history):
            console.print(part)


@history_app.command("build-embedded")
def build_embedded(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the history, new or empty.")
    ],
    seed: Annotated[
        int, typer.Option(min=0, metavar="SEED", help="The same seed builds the same history.")
    ] = 0,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the history is called in tables and run folders.",
            show_default="the folder's own name",
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Build the embedded history anew: text, base model, nine centuries, measurements.

    Takes up to an hour on two cores. What it builds is synthetic, and says so.
    """
    with clean_errors(writes=out):
        from progressgym_env.benchmarks.clock import span
        from progressgym_env.benchmarks.display import stage_progress
        from progressgym_env.benchmarks.tables import fidelity_table
        from progressgym_env.files import new_folder

        new_folder(out)  # Before torch is loaded: a mistake should not take seconds.
        from progressgym_env.histories.embedded.build import build

        with stage_progress(Console(stderr=True)) as progress:
            report = build(out, seed=seed, device=device, progress=progress, name=name)
        Console().print(fidelity_table(report))
        typer.echo(f"Built in {span(report.seconds)}: {out}")
        typer.echo(f"Play it with: progressgym run --history {out}")


@history_app.command("measure")
def measure_history(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A history folder.")],
    questions: Annotated[
        str | None,
        typer.Option(
            metavar="QUESTIONS",
            help="Questions to measure with: own, moralevals, or the path of question files.",
            show_default="those it was measured with",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="Decides the replies.")] = 0,
    device: Device = "auto",
) -> None:
    """Measure a history's models again, and replace its records."""
    with clean_errors(writes=folder):
        from progressgym_env.benchmarks.display import stage_progress
        from progressgym_env.histories import remeasure
        from progressgym_env.values.choosing import resolve_questions

        asked = None if questions is None else resolve_questions(questions)
        with stage_progress(Console(stderr=True)) as progress:
            history = remeasure(
                folder, questions=asked, device=device, seed=seed, progress=progress
            )
        typer.echo(f"Measured {history.n_centuries} centuries: {folder}")


@history_app.command("plot")
def plot_history(
    history: Annotated[str, typer.Argument(metavar="HISTORY", help="A name or a folder.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .png or .svg file.")],
    questions: QuestionsOption = None,
) -> None:
    """Draw a history's measured values, with what was planted where something was."""
    with clean_errors(writes=out):
        from progressgym_env.benchmarks.plots import draw_history
        from progressgym_env.histories.loading import load_one

        draw_history(out, load_one(history, questions=questions))
        typer.echo(f"Drawn: {out}")


@history_app.command("prepare")
def prepare_history(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="histllama-8b, histllama-70b, or a TOML file that declares one."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the history; one that was left half-way is gone on with.",
            show_default="where the name is looked for",
        ),
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(
            metavar="QUESTIONS",
            help="Questions to measure with: own, moralevals, or the path of question files.",
            show_default="as declared",
        ),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where the files of own or moralevals lie."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="Decides the replies.")] = 0,
    device: Device = "auto",
) -> None:
    """Measure a history of full models, one after another, once and for all.

    All models are looked for before the first is loaded. Interrupted, the same command goes on
    with the next century. Afterwards an episode needs the first century's model alone. Other
    questions than those declared are measured into a folder of their own, beside.
    """
    with clean_errors(writes=out):
        from progressgym_env.benchmarks.display import stage_progress
        from progressgym_env.errors import InvalidArgumentError
        from progressgym_env.histories.declared import DECLARED, declaration
        from progressgym_env.values.choosing import questions_option, resolve_questions
        from progressgym_env.values.questions import load_questions

        declared = declaration(name)
        if out is None and name not in DECLARED:
            raise InvalidArgumentError("give --out FOLDER: only the package's own have a place")
        named = questions or declared.questions
        asked = resolve_questions(named) if path is None else load_questions(named, path)
        from progressgym_env.histories.prepare import place_of, prepare

        folder = place_of(name, declared, asked, seed) if out is None else out
        with stage_progress(Console(stderr=True)) as progress:
            history = prepare(declared, folder, asked, device=device, seed=seed, progress=progress)
        typer.echo(f"Prepared {history.n_centuries} centuries: {folder}")
        others = out is None and asked.name != declared.questions
        option = f" {questions_option(path or named)}" if others else ""
        typer.echo(f"Play it with: progressgym run --history {out or name}{option}")
