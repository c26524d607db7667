"""The ``progressgym`` command.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.

Exit codes: 0 all went well; 1 an episode failed, the others stand in the run folder; 2 a mistake
in what was asked for, or a path that cannot be used; 130 interrupted by Ctrl-C; 143 terminated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from progressgym_env import __version__
from progressgym_env.benchmarks.defaults import DEFAULT_AGENTS
from progressgym_env.cli.errors import EXIT_FAILED, clean_errors
from progressgym_env.cli.history import history_app
from progressgym_env.cli.options import (
    Device,
    EngineName,
    GpuMemoryUtilization,
    Json,
    Launch,
    QuestionsOption,
    TensorParallelSize,
)

if TYPE_CHECKING:
    from progressgym_env.benchmarks.config import RunConfig
    from progressgym_env.benchmarks.runner import RunResult

__all__ = ["Device", "Json", "app", "main"]

_DEFAULT_AGENTS = ",".join(DEFAULT_AGENTS)

app = typer.Typer(
    name="progressgym",
    help="Progress alignment: follow, predict and co-evolve with nine centuries of values.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(history_app, name="history")

# The options, here rather than in the signatures, where nobody could read those any more.
Challenge = Annotated[
    str,
    typer.Option(metavar="NAME", help="What is asked of the agents: follow, predict, coevolve."),
]
Agents = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Who plays, separated by commas; `progressgym list` names all.",
        # With blanks, at which a narrow column can break.
        show_default=", ".join(DEFAULT_AGENTS),
    ),
]
HistoryName = Annotated[
    str,
    typer.Option(metavar="HISTORY", help="A history's name, or the path of a history folder."),
]
Update = Annotated[
    str, typer.Option(metavar="NAME", help="How the examinee is trained: sft, dpo or rlhf.")
]
UpdateFrom = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="Train on from the 'current' model, or from the 'initial' one at every step.",
    ),
]
StepsAhead = Annotated[
    int, typer.Option(metavar="K", help="Predict only: how many centuries ahead to be.")
]
Seed = Annotated[int, typer.Option(min=0, metavar="SEED", help="The first seed.")]
Seeds = Annotated[
    int, typer.Option(min=1, metavar="N", help="How many seeds: SEED, SEED + 1 and so on.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder for the results, new or empty.",
        show_default="a new one in the folder runs",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Episodes side by side. Changes the time, never the results.",
        show_default="as many as cores and episodes allow",
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Threads of each episode. Results depend on it in the last digits.",
    ),
]
Wandb = Annotated[
    str,
    typer.Option(
        metavar="MODE", help="Log to Weights & Biases as well: online, offline or disabled."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def main() -> None:
    """Run the command line."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"progressgym {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    challenge: Challenge = "coevolve",
    agents: Agents = _DEFAULT_AGENTS,
    history: HistoryName = "embedded",
    questions: QuestionsOption = None,
    update: Update = "dpo",
    update_from: UpdateFrom = "current",
    steps_ahead: StepsAhead = 1,
    seed: Seed = 0,
    seeds: Seeds = 1,
    out: Out = None,
    device: Device = "auto",
    engine: EngineName = "transformers",
    tensor_parallel_size: TensorParallelSize = None,
    gpu_memory_utilization: GpuMemoryUtilization = None,
    launch: Launch = None,
    workers: Workers = None,
    threads: Threads = 1,
    wandb: Wandb = "disabled",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Play agents on a challenge; print a table, write a run folder with a picture.

    Score is the challenge's official score; skill is 0 for the agent hold and 1 for the oracle.
    The same seed gives the same episodes, byte for byte. Ctrl-C keeps what is finished.
    """
    with clean_errors(writes=out or Path("runs")):
        from progressgym_env.benchmarks.config import RunConfig

        config = RunConfig(
            challenge=challenge.strip().lower(),
            agents=tuple(name.strip() for name in agents.split(",") if name.strip()),
            history=history,
            questions=questions,
            update=update,
            update_from=update_from,
            seeds=tuple(range(seed, seed + seeds)),
            steps_ahead=steps_ahead,
            device=device,
            engine=engine,
            threads=threads,
            tensor_parallel_size=tensor_parallel_size or 1,
            gpu_memory_utilization=gpu_memory_utilization,
            launch=launch,
        )
        result = _run(config, out, workers, quiet=quiet, wandb=wandb)
        _print_result(result, as_json=as_json)
    if result.failures:
        raise typer.Exit(EXIT_FAILED)


@app.command("list")
def list_names(as_json: Json = False) -> None:
    """Name the challenges, agents, histories and updates that `progressgym run` takes.

    Wherever a history is asked for, the path of a history folder does as well.
    """
    from progressgym_env.agents import agent_names
    from progressgym_env.agents.registry import AGENT_PATTERNS
    from progressgym_env.envs.registry import challenges
    from progressgym_env.histories.loading import HISTORIES
    from progressgym_env.models.updates import UPDATES

    known = {
        "challenges": list(challenges()),
        "agents": list(agent_names()),
        "histories": list(HISTORIES),
        "updates": list(UPDATES),
    }
    if as_json:
        typer.echo(json.dumps(known, indent=2))
        return
    for kind, names in known.items():
        shown = [*names, *AGENT_PATTERNS] if kind == "agents" else names
        besides = ", or the path of a history folder" if kind == "histories" else ""
        typer.echo(f"{kind:<12}{', '.join(shown)}{besides}")


def _run(
    config: RunConfig, out: Path | None, workers: int | None, *, quiet: bool, wandb: str
) -> RunResult:
    from progressgym_env.benchmarks.display import display_for
    from progressgym_env.benchmarks.runner import run as play
    from progressgym_env.benchmarks.tracking import tracking_warnings
    from progressgym_env.files import new_folder, numbered_folder

    console = Console(stderr=True)
    made: list[Path] = []

    def make_folder() -> Path:
        name = Path(config.history).resolve().name
        stem = f"{config.challenge}-{name}"
        made.append(numbered_folder("runs", stem) if out is None else new_folder(out))
        return made[0]

    try:
        with tracking_warnings(console):
            return play(
                config,
                make_folder,
                workers=workers,
                display=lambda cells, n_steps, side_by_side: display_for(
                    console, cells, n_steps, side_by_side, quiet=quiet
                ),
                wandb=wandb,
            )
    except KeyboardInterrupt:
        for folder in made:
            console.print(Text(f"What is finished stands in {folder}"), soft_wrap=True)
        raise


def _print_result(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2))
        return
    from progressgym_env.benchmarks.tables import result_table, run_title

    console = Console()
    console.print(result_table(result.rows, run_title(result.config, result.history_name)))
    for note in result.notes:
        console.print(note, style="dim", markup=False, highlight=False)
    console.print(f"Results: {result.folder}", markup=False, highlight=False, soft_wrap=True)
    if result.wandb is not None:
        console.print(f"W&B: {result.wandb}", markup=False, highlight=False, soft_wrap=True)


# Last: they add their commands to ``app``.
from progressgym_env.cli import bench as _bench  # noqa: E402, F401
from progressgym_env.cli import doctor as _doctor  # noqa: E402, F401
from progressgym_env.cli import questions as _questions  # noqa: E402, F401
from progressgym_env.cli import report as _report  # noqa: E402, F401
from progressgym_env.cli import train as _train  # noqa: E402, F401
from progressgym_env.cli import verify as _verify  # noqa: E402, F401
