"""What a benchmark found, as a small file to keep and as tables to print.

    python -m progressgym_env.benchmarks.results collect RUN [RUN ...] --out results.json
    python -m progressgym_env.benchmarks.results collect results.json RUN --out more.json
    python -m progressgym_env.benchmarks.results show results.json

Run folders are large and stay where they are; what a page of results needs of them is kept: every
episode's score and rewards. Runs of the same matrix with other seeds can be put together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from progressgym_env.benchmarks.config import differences
from progressgym_env.benchmarks.leaderboard import Leaderboard
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.run_folder import read_config, read_episodes
from progressgym_env.benchmarks.statistics import Estimate, compare
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import write_json

__all__ = ["answers_table", "board_of", "collect", "ranking_table", "read_results"]

_SETTINGS = ("device", "engine", "threads", "tensor_parallel_size", "launched")
_KEPT = ("package_version", "history_digest", "question_set_hash", "versions", "processor")


def collect(runs: Sequence[Path]) -> dict[str, Any]:
    """What is kept of runs.

    Args:
        runs: run folders, and files that ``collect`` made of others.

    Raises:
        InvalidArgumentError: they differ in more than their seeds, or share an episode.
        RunFolderError: one is no run folder.
    """
    folders = [run for run in runs if not run.is_file()]
    configs = {run: read_config(run) for run in folders}
    kept = {run: _kept_of(run, configs.get(run)) for run in runs}
    for run in runs[1:]:
        changed = differences(kept[runs[0]], kept[run])
        if run in configs and folders[0] != run:
            changed = differences(_without_seeds(configs[folders[0]]), _without_seeds(configs[run]))
        if changed:
            raise InvalidArgumentError(
                f"{run} and {runs[0]} do not belong together: {'; '.join(changed)}; put runs "
                "together that differ in their seeds alone"
            )
    found: dict[Cell, dict[str, Any]] = {}
    for run in runs:
        for cell, episode in (_played(run) if run in configs else read_results(run)).items():
            if cell in found:
                raise InvalidArgumentError(f"{run} holds {cell.slug} once more; give each run once")
            found[cell] = {**asdict(cell), **episode}
    # In the order of the matrix, whichever run came first: seeds change last.
    kinds = dict.fromkeys(replace(cell, seed=0) for cell in found)
    places = {kind: place for place, kind in enumerate(kinds)}
    order = sorted(found, key=lambda cell: (places[replace(cell, seed=0)], cell.seed))
    return {**kept[runs[0]], "episodes": [found[cell] for cell in order]}


def _kept_of(run: Path, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a run folder's configuration, or of a file of results, what must be the same."""
    if config is not None:
        # The engine stands there where it is not transformers, its size where it is not one.
        arguments = {"engine": "transformers", **config["arguments"]}
        settings = {key: arguments[key] for key in _SETTINGS if key in arguments}
        kept = {key: config[key] for key in _KEPT}
        return {**kept, "settings": settings, "history": config["history"]["name"]}
    try:
        raw = json.loads(run.read_text(encoding="utf-8"))
        return {key: raw[key] for key in (*_KEPT, "settings", "history")}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgumentError(
            f"{run} is no file of results ({error!r}); give a run folder, or a file that "
            "`collect` made"
        ) from error


def _played(run: Path) -> dict[Cell, dict[str, Any]]:
    found = {}
    for episode in read_episodes(run):
        cell = Cell(
            episode.challenge, episode.update, episode.update_from, episode.steps_ahead,
            episode.agent, episode.seed,
        )  # fmt: skip
        rewards = [step.reward for step in episode.steps]
        found[cell] = {"score": episode.score, "rewards": rewards}
    return found


def read_results(path: Path) -> dict[Cell, dict[str, Any]]:
    """Cell → score and rewards, of a file that ``collect`` made."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    found = {}
    for entry in raw["episodes"]:
        kept = {"score": entry.pop("score"), "rewards": entry.pop("rewards")}
        found[Cell(**entry)] = kept
    return found


def board_of(results: Mapping[Cell, Mapping[str, Any]]) -> Leaderboard:
    """The ranking of results."""
    return Leaderboard(list(results), {cell: kept["score"] for cell, kept in results.items()})


def ranking_table(board: Leaderboard) -> str:
    """Algorithms by overall skill, in Markdown: scores with skills, and 95% intervals."""
    head = "| algorithm | overall skill | " + " | ".join(t.capitalize() for t in board.tasks) + " |"
    lines = [head, "|---" * (2 + len(board.tasks)) + "|"]
    ranked = sorted(board.algorithms, key=lambda name: -_value(board.overall(name)))
    for algorithm in ranked:
        cells = []
        for task in board.tasks:
            standing = board.standing(algorithm, task)
            if standing is None or standing.score is None:
                cells.append("–")
                continue
            skill = "" if standing.skill is None else f", {standing.skill.value:.2f}"
            cells.append(f"{_interval(standing.score, 4)}{skill}")
        lines.append(
            f"| {algorithm} | {_interval(board.overall(algorithm), 2)} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def answers_table(
    results: Mapping[Cell, Mapping[str, Any]], task: str, pairs: Sequence[tuple[str, str]]
) -> str:
    """Pairs of algorithms on a task, in Markdown: how far ahead, and how probably.

    Args:
        results: of ``read_results``.
        task: a challenge.
        pairs: algorithms, such as ``("extrapolative · dpo", "lifelong · dpo")``.
    """
    board = board_of(results)
    lines = ["| | ahead by (95% interval) | probability of improvement |", "|---|---|---|"]
    for one, other in pairs:
        first, second = board.scores_of(one, task), board.scores_of(other, task)
        if first is None or second is None:
            continue
        found = compare({task: first}, {task: second})
        ahead, better = found.ahead, found.improvement
        lines.append(
            f"| {one} over {other} | {ahead.value:+.4f} ({_bound(ahead.low)} to "
            f"{_bound(ahead.high)}) | {better.value:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect or show."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="keep what run folders found")
    collecting.add_argument("runs", nargs="+", type=Path)
    collecting.add_argument("--out", type=Path, required=True)
    showing = commands.add_parser("show", help="print the ranking, in Markdown")
    showing.add_argument("file", type=Path)
    asked = parser.parse_args(arguments)
    if asked.command == "collect":
        write_json(asked.out, collect(asked.runs))
    else:
        board = board_of(read_results(asked.file))
        Console(soft_wrap=True).print(ranking_table(board), markup=False, highlight=False)


def _without_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "arguments": {**config["arguments"], "seeds": []}}


def _value(estimate: Estimate | None) -> float:
    return float("-inf") if estimate is None else estimate.value


def _interval(estimate: Estimate | None, digits: int) -> str:
    return "–" if estimate is None else estimate.text(digits)


def _bound(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


if __name__ == "__main__":
    main()
