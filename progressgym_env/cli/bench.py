"""``progressgym bench``: a whole matrix of agents, challenges, updates and seeds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from progressgym_env.cli import Json, Quiet, Workers, app
from progressgym_env.cli.errors import EXIT_FAILED, clean_errors
from progressgym_env.cli.options import (
    GpuMemoryUtilization,
    Launch,
    QuestionsOption,
    TensorParallelSize,
)

if TYPE_CHECKING:
    from progressgym_env.benchmarks.bench import Executor
    from progressgym_env.benchmarks.bench_result import BenchHooks
    from progressgym_env.benchmarks.matrix import Matrix

__all__ = ["bench"]

_EXECUTORS = ("processes", "ray")


def _list_option(text: str, default: str) -> Any:
    return typer.Option(metavar="LIST", help=text, show_default=default)


@app.command()
def bench(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONFIG]",
            help="A TOML file, or 'paper': the paper's matrix. Options fill what it leaves.",
        ),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(metavar="HISTORY", help="A name or a folder.", show_default="embedded"),
    ] = None,
    questions: QuestionsOption = None,
    agents: Annotated[
        str | None,
        _list_option("Who plays, separated by commas.", "hold, lifelong, extrapolative, oracle"),
    ] = None,
    challenges: Annotated[
        str | None, _list_option("What is asked of them.", "follow,predict,coevolve")
    ] = None,
    updates: Annotated[str | None, _list_option("How the examinee is trained.", "dpo")] = None,
    update_from: Annotated[
        str | None,
        _list_option("From the 'current' model (iterative) or the 'initial'.", "current"),
    ] = None,
    steps_ahead: Annotated[
        str | None, _list_option("Predict only: how many centuries ahead.", "1")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many seeds: 0, 1 and so on.", show_default="1"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1, ...", show_default="auto"),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What measures and replies: transformers or vllm.",
            show_default="transformers",
        ),
    ] = None,
    tensor_parallel_size: TensorParallelSize = None,
    gpu_memory_utilization: GpuMemoryUtilization = None,
    launch: Launch = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Threads of each episode. Results depend on it in the last digits.",
            show_default="1",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the results, new or empty; with --resume, the one to go on in.",
            show_default="a new one in the folder runs",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in --out, which says by itself what is played.")
    ] = False,
    jobs: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Where episodes are played: 'processes' of this machine, or a 'ray' cluster.",
        ),
    ] = "processes",
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="N",
            help="GPUs of the Ray cluster for each episode; parts of one are shared.",
            show_default="as many as vLLM needs, else 0: it sees all of its machine, and so do "
            "others",
        ),
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Play a matrix of agents, challenges, updates and seeds, and rank them.

    Every century is on disk before the next begins: stopped in whatever way, it goes on with
    --resume at that century, to the same bytes. A failed episode does not stop the others, and is
    tried again with --resume.
    """
    with clean_errors(writes=out or Path("runs")):
        from progressgym_env.arguments import check_choice
        from progressgym_env.benchmarks.bench_config import named_file
        from progressgym_env.errors import InvalidArgumentError

        check_choice("jobs", jobs, _EXECUTORS)
        if gpus is not None and jobs != "ray":
            raise InvalidArgumentError(
                "--gpus goes with --jobs ray; processes of this machine share its GPUs"
            )
        given: dict[str, Any] = {
            "history": history,
            "questions": questions,
            "agents": _split(agents),
            "challenges": _split(challenges),
            "updates": _split(updates),
            "update_from": _split(update_from),
            "steps_ahead": _numbers(steps_ahead),
            "seeds": seeds,
            "device": device,
            "engine": engine,
            "threads": threads,
            "tensor_parallel_size": tensor_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            "launch": launch,
        }
        options = {key: value for key, value in given.items() if value is not None}
        file = None if config is None else named_file(config)
        matrix = _matrix(file, options, out if resume else None, resume=resume)
        executor = _executor(jobs, matrix, workers, gpus)
        hooks = _played(matrix, out, workers, executor, resume=resume, quiet=quiet)
        _print(hooks, as_json=as_json)
    if hooks.folder.failures:
        raise typer.Exit(EXIT_FAILED)


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str | None) -> list[int] | None:
    from progressgym_env.errors import InvalidArgumentError

    parts = _split(text)
    if parts is None:
        return None
    if not all(part.isdecimal() for part in parts):
        raise InvalidArgumentError(f"--steps-ahead {text}: whole numbers, separated by commas")
    return [int(part) for part in parts]


def _matrix(
    config: Path | None, options: dict[str, Any], folder: Path | None, *, resume: bool
) -> Matrix:
    """What to play; a run that goes on says so itself, and options may repeat it.

    What only the machine needs may be another then.
    """
    from progressgym_env.benchmarks.bench import resumed
    from progressgym_env.benchmarks.bench_config import matrix_from
    from progressgym_env.benchmarks.matrix import OF_MACHINE
    from progressgym_env.errors import InvalidArgumentError, RunFolderError

    defaults = {"challenges": ["follow", "predict", "coevolve"]}
    asked = None
    of_machine = {key: value for key, value in options.items() if key in OF_MACHINE}
    if config is not None or len(options) > len(of_machine) or not resume:
        asked = matrix_from(config, options, defaults)
    if not resume:
        assert asked is not None
        return asked
    if folder is None:
        raise InvalidArgumentError("--resume needs --out: the folder of the stopped run")
    matrix = resumed(folder)
    if asked is not None and asked != matrix:
        before, now = _in_full(matrix), _in_full(asked)
        changed = [f"{k}: {before[k]} → {now[k]}" for k in before if before[k] != now[k]]
        raise RunFolderError(
            f"{folder} was begun with another configuration; leave the options out to go on with "
            "it, or start a new run:\n  " + "\n  ".join(changed)
        )
    if asked is not None:
        of_machine = {key: getattr(asked, key) for key in OF_MACHINE}
    return replace(matrix, **{key: v for key, v in of_machine.items() if v is not None})


def _in_full(matrix: Matrix) -> dict[str, Any]:
    """What two matrices may differ in, with what ``to_dict`` leaves out."""
    found = {f.name: getattr(matrix, f.name) for f in fields(matrix) if f.compare}
    return {key: v for key, v in {**found, **matrix.to_dict()}.items() if key != "blocks"}


def _played(
    matrix: Matrix,
    out: Path | None,
    workers: int | None,
    executor: Callable[[int, Path], Executor] | None,
    *,
    resume: bool,
    quiet: bool,
) -> BenchHooks:
    from progressgym_env.benchmarks.bench import play_matrix
    from progressgym_env.benchmarks.bench_result import BenchHooks
    from progressgym_env.benchmarks.display import display_for
    from progressgym_env.files import new_folder, numbered_folder

    console = Console(stderr=True)
    hooks = BenchHooks()

    def make_folder() -> Path:
        if out is not None:
            return new_folder(out)
        return numbered_folder("runs", f"bench-{Path(matrix.history).resolve().name}")

    try:
        play_matrix(
            matrix,
            hooks,
            make_folder=make_folder,
            resume=out if resume else None,
            workers=workers,
            display=lambda cells, n_steps, side_by_side: display_for(
                console, cells, n_steps, side_by_side, quiet=quiet
            ),
            executor=executor,
        )
    except KeyboardInterrupt:
        if hasattr(hooks, "folder"):
            command = shlex.join(
                ["progressgym", "bench", "--resume", "--out", str(hooks.folder.path)]
            )
            console.print(Text(f"Go on with: {command}"), soft_wrap=True)
        raise
    return hooks


def _executor(
    jobs: str, matrix: Matrix, workers: int | None, gpus: float | None
) -> Callable[[int, Path], Executor] | None:
    if jobs == "processes":
        return None
    from progressgym_env.benchmarks.ray_cluster import gpus_of_a_cell, require_ray
    from progressgym_env.benchmarks.ray_executor import RayExecutor

    # Before a folder is made.
    require_ray()
    each = gpus_of_a_cell(matrix, gpus)
    # As many as the cluster takes, which is not what this machine's cores say.
    return lambda _, logs: RayExecutor(workers, matrix.threads, logs, gpus=each)


def _print(hooks: BenchHooks, *, as_json: bool) -> None:
    folder = hooks.folder
    status = "failed" if folder.failures else "complete"
    if as_json:
        typer.echo(json.dumps({"folder": str(folder.path), **hooks.summary(status)}, indent=2))
        return
    from progressgym_env.benchmarks.bench_result import leaderboard_tables

    console = Console()
    board = hooks.leaderboard
    title = f"{hooks.history.name} · {len(folder.scores)} of {len(folder.cells)} episodes"
    for table in leaderboard_tables(board, title, folder.timings):
        console.print(table)
    failures = [
        f"{cell.slug} failed: {failure.error}: {failure.message}"
        for cell, failure in folder.failures.items()
    ]
    for note in (*board.notes, *failures):
        console.print(note, style="dim", markup=False, highlight=False)
    console.print(f"Results: {folder.path}", markup=False, highlight=False, soft_wrap=True)
