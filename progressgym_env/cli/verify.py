"""``progressgym verify`` and ``progressgym submit``: does a run say what happened; packing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from progressgym_env.cli import Quiet, app
from progressgym_env.cli.errors import EXIT_FAILED, clean_errors

if TYPE_CHECKING:
    from progressgym_env.benchmarks.verdict import Verdict

__all__ = ["submit", "verify"]

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
History = Annotated[
    str | None,
    typer.Option(
        metavar="HISTORY",
        help="Where the history lies.",
        show_default="where the run found it",
    ),
]
MinSeeds = Annotated[
    int, typer.Option(min=1, metavar="N", help="The fewest seeds of a submission.")
]


@app.command()
def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, or the .zip of a submission.")
    ],
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Play all episodes again, with real models."),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Play N episodes again, chosen at random.",
            show_default="none, or with --replay all",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="SEED",
            help="Decides which are played again.",
            show_default="one that nobody can know beforehand",
        ),
    ] = None,
    history: History = None,
    submission: Annotated[
        bool, typer.Option("--submission", help="Hold a run folder to the rules of a submission.")
    ] = False,
    min_seeds: MinSeeds = 5,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="X",
            help="How far an entry of the examinee's embedding may be off in a replay on other "
            "hardware or versions (of the human proxy's, twice that); on the same, nothing may.",
        ),
    ] = 0.1,
    score_tolerance: Annotated[
        float, typer.Option(min=0.0, metavar="X", help="Likewise for scores and rewards.")
    ] = 0.005,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Episodes played again side by side.",
            show_default="as many as cores allow",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check that a run, or a submission, says what happened.

    Without --replay or --sample no language model runs: everything must follow from the seeds, the
    actions and what was measured. Only a replay tells whether it was measured.

    Exit codes: 0 all agrees; 1 something does not; 2 it cannot be checked.
    """
    with clean_errors():
        from progressgym_env.benchmarks.retelling import Tolerance
        from progressgym_env.benchmarks.verify import verify as check

        with _progress(quiet=quiet) as progress:
            verdict = check(
                run,
                history=history,
                submission=submission,
                min_seeds=min_seeds,
                replay=sample or ("all" if replay else "none"),
                seed=seed,
                tolerance=Tolerance(embedding=tolerance, score=score_tolerance),
                workers=workers,
                progress=progress,
            )
        _print(verdict, as_json=as_json)
    if not verdict.ok:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def submit(
    run: Run,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What tables call the submission.",
            show_default="the folder's name",
        ),
    ] = None,
    author: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Who submits; give it once for each.", show_default="anonymous"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.zip", help="A new file.", show_default="RUN.zip"),
    ] = None,
    url: Annotated[
        str, typer.Option(metavar="URL", help="Of a paper, code or page.", show_default="none")
    ] = "",
    description: Annotated[
        str, typer.Option(metavar="TEXT", help="What it is, in a line.", show_default="none")
    ] = "",
    history: History = None,
    min_seeds: MinSeeds = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check a complete run as a submission, and pack it into a .zip.

    The zip holds JSON and safetensors alone, and a manifest with the SHA-256 of every file.
    """
    target = out or Path(f"{run.resolve().name}.zip")
    with clean_errors(writes=target):
        from progressgym_env.benchmarks.submission import submit as hand_in

        with _progress(quiet=quiet) as progress:
            hand_in(
                run,
                target,
                name=name or run.resolve().name,
                authors=author or ["anonymous"],
                url=url,
                description=description,
                min_seeds=min_seeds,
                history=history,
                progress=progress,
            )
        if as_json:
            from progressgym_env.files import file_hash

            typer.echo(json.dumps({"file": str(target), "sha256": file_hash(target)}, indent=2))
            return
        Console().print(Text(f"Packed: {target}"), soft_wrap=True)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    from progressgym_env.benchmarks.display import stage_progress

    if quiet:
        yield lambda stage, done, total: None
        return
    with stage_progress(Console(stderr=True)) as progress:
        yield progress


def _print(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(verdict.as_dict(), indent=2))
        return
    console = Console()
    for finding in verdict.findings:
        style = "red" if finding.severity == "error" else "dim"
        console.print(Text(f"{finding.severity}: {finding}", style=style), soft_wrap=True)
    console.print(Text(verdict.in_words()), soft_wrap=True)
