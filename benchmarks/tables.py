"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from progressgym_env.benchmarks.summary import Row, Spread
from progressgym_env.histories.history import History
from progressgym_env.values.dimensions import DIMENSION_KEYS, DIMENSIONS
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.questions import QuestionSet

if TYPE_CHECKING:
    from progressgym_env.benchmarks.config import RunConfig
    from progressgym_env.histories.embedded.fidelity import FidelityReport

__all__ = [
    "comparison_table",
    "fidelity_table",
    "history_dict",
    "history_parts",
    "plain_table",
    "questions_dict",
    "questions_table",
    "result_table",
    "run_title",
]


def result_table(rows: Sequence[Row], title: str) -> Table:
    """The table at the end of a run."""
    table = plain_table(title, "agent", ("score", "skill", "seconds"))
    for row in rows:
        table.add_row(row.agent, _cell(row.score, 4), _cell(row.skill, 2), _cell(row.seconds, 1))
    return table


def comparison_table(summary: Mapping[str, Any]) -> Table:
    """A trained policy beside all others, on histories it never met."""
    title = (
        f"{summary['challenge']} · {summary['episodes']} episodes of {summary['history']} · "
        f"policy trained for {summary['steps']:,} steps in {summary['seconds']:.0f} s"
    )
    table = plain_table(title, "agent", ("score", "policy ahead by", "95% interval"))
    table.add_row("policy", f"{summary['score']:.4f}", "", "")
    for row in summary["compared"]:
        interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
        table.add_row(row["agent"], f"{row['score']:.4f}", f"{row['ahead']:+.4f}", interval)
    return table


def run_title(config: RunConfig, history_name: str) -> str:
    """What was played, in a line; what is as by default goes without saying."""
    ahead = f", {config.steps_ahead} ahead" if config.challenge == "predict" else ""
    origin = "" if config.update_from == "current" else f" from {config.update_from}"
    first, last = config.seeds[0], config.seeds[-1]
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}, mean ± sd"
    return f"{config.challenge}{ahead} · {history_name} · {config.update}{origin} · {seeds}"


def fidelity_table(report: FidelityReport) -> Table:
    """How well a built history measures what was planted."""
    columns = ("r", "r across centuries", "mean absolute error")
    table = plain_table("Measured against planted values", "acts", columns)
    for label, part in (
        ("held-out scenarios", report.held_out),
        ("acts never seen in value training", report.unseen_acts),
        ("control: base without adapters", report.frozen_control),
    ):
        numbers = (part.pearson_r, part.dimension_r, part.mean_absolute_error)
        table.add_row(label, *(f"{number:.3f}" for number in numbers))
    return table


def history_parts(history: History) -> list[Table | Text]:
    """A history for reading: where it comes from, measured values, planted ones if there are."""
    kind = "synthetic" if history.provenance.get("synthetic") else "real"
    heading = f"{history.name}: {history.n_centuries} centuries, {kind}. "
    parts: list[Table | Text] = [
        Text(heading + str(history.provenance.get("description", ""))),
        _values_table("Measured values", history.names, history.values),
    ]
    if history.planted is not None:
        parts.append(_values_table("Planted values", history.names, history.planted))
    parts += [Text("Provenance", style="bold"), Text(_lines(history.provenance))]
    return parts


def history_dict(history: History) -> dict[str, Any]:
    """A history as JSON-able values."""
    planted = history.planted
    return {
        "name": history.name,
        "digest": history.digest,
        "question_set_hash": history.questions.hash,
        "centuries": list(history.names),
        "dimensions": list(DIMENSION_KEYS),
        "values": history.values.tolist(),
        "standard_errors": history.standard_errors.tolist(),
        "planted": None if planted is None else planted.tolist(),
        "provenance": history.provenance,
    }


def plain_table(title: str, first: str, columns: Sequence[str]) -> Table:
    """An empty table: a first column of names, and columns of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _values_table(title: str, names: Sequence[str], values: FloatArray) -> Table:
    table = plain_table(title, "dimension", names)
    for index, key in enumerate(DIMENSION_KEYS):
        table.add_row(key, *(f"{value:.2f}" for value in values[:, index]))
    return table


def _lines(provenance: dict[str, Any], indent: str = "  ") -> str:
    lines = []
    for key, value in provenance.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", _lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)


def _cell(value: Spread | None, digits: int) -> str:
    return "–" if value is None else value.text(digits)


def questions_table(questions: QuestionSet) -> Table:
    """How many questions of a set bear on every dimension."""
    table = plain_table(f"{questions.name}, by dimension", "dimension", ("eval", "train"))
    for dimension in DIMENSIONS:
        sizes = questions.sizes[dimension.key]
        table.add_row(dimension.label, str(sizes["eval"]), str(sizes["train"]))
    return table


def questions_dict(questions: QuestionSet) -> dict[str, Any]:
    """The same as data, with what was found wrong."""
    return {
        "name": questions.name,
        "hash": questions.hash,
        "eval": len(questions.eval),
        "train": len(questions.train),
        "pairs": len(questions.pairs),
        "sizes": questions.sizes,
        "findings": [str(finding) for finding in questions.findings],
    }
