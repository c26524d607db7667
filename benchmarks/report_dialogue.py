"""What people said in the episodes of a report, side by side; no more than fits a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.benchmarks.report_series import Group, Report

__all__ = ["dialogue_view"]

_MOST_TASKS, _MOST_COLUMNS, _MOST_CENTURIES, _MOST_SAMPLES = 6, 12, 12, 4
_MOST_LETTERS = 300


def dialogue_view(report: Report) -> list[dict[str, Any]]:
    """Task → centuries → prompts → replies, of the first seed that anyone has finished.

    Where all algorithms were told the same, as people of a given history tell them, there is one
    column for all.
    """
    found: list[dict[str, Any]] = []
    for task, groups in report.groups.items():
        if groups and len(found) < _MOST_TASKS:
            found.append(_task(task, groups[:_MOST_COLUMNS], len(groups)))
    found = [item for item in found if item["centuries"]]
    names = list(dict.fromkeys(c["name"] for item in found for c in item["centuries"]))
    names.sort(key=_place_in(report.data.centuries))
    for item in found:
        item["all_centuries"] = names
        for century in item["centuries"]:
            century["number"] = names.index(century["name"])
    return found


def _place_in(centuries: Sequence[str]) -> Callable[[str], int]:
    places = {name: place for place, name in enumerate(centuries)}
    return lambda name: places.get(name, len(places))


def _task(task: str, groups: Sequence[Group], n_groups: int) -> dict[str, Any]:
    seed = min(episode.seed for group in groups for episode in group.episodes)
    columns = [
        (group.series.name, episode)
        for group in groups
        for episode in group.episodes
        if episode.seed == seed
    ]
    names = [name for name, _ in columns]
    told = [[step.dialogue for step in episode.steps] for _, episode in columns]
    same = len(columns) > 1 and all(one == told[0] for one in told)
    if same:
        columns, names = columns[:1], ["all algorithms"]
    steps = range(len(columns[0][1].steps))
    every = max(1, -(-len(steps) // _MOST_CENTURIES))
    centuries = [_century([e for _, e in columns], step) for step in steps[::every]]
    return {
        "task": task,
        "seed": seed,
        "names": names,
        "same": same,
        "proxy": columns[0][1].proxy_values is not None,
        "left_out": max(0, n_groups - len(groups)),
        "centuries": [century for century in centuries if century["rows"]],
    }


def _century(episodes: Sequence[EpisodeRecord], step: int) -> dict[str, Any]:
    said = [dict(e.steps[step].dialogue) if step < len(e.steps) else {} for e in episodes]
    prompts = list(dict.fromkeys(prompt for replies in said for prompt in replies))
    rows = [
        {
            "prompt": _cut(prompt),
            "replies": [_cut(replies[prompt]) if prompt in replies else None for replies in said],
        }
        for prompt in prompts[:_MOST_SAMPLES]
    ]
    return {"name": episodes[0].steps[step].century, "rows": rows}


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS].rstrip() + " …"
