"""Tables of a report: the leaderboard, and algorithms beside one another."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from progressgym_env.benchmarks.report_series import Report
from progressgym_env.benchmarks.statistics import Comparison, Estimate

__all__ = ["SCORE_DIGITS", "SKILL_DIGITS", "comparisons_view", "fixed", "leaderboard_view"]

SCORE_DIGITS, SKILL_DIGITS = 4, 2
N_LEVELS = 11
_FLOORS = {"uniform": "uniform vectors", "random": "random", "hold": "hold"}


def leaderboard_view(report: Report) -> dict[str, Any]:
    """Rows by rank, floors, and the column that the rows are sorted by."""
    board = report.board
    rows: list[dict[str, Any]] = []
    for name in report.ranked:
        cells = []
        for task in board.tasks:
            standing = board.standing(name, task)
            missing = ""
            if standing is not None and standing.missing:
                n_done = len(standing.seeds_done)
                seeds = ", ".join(map(str, standing.missing))
                missing = f"{n_done} of {n_done + len(standing.missing)} seeds, missing {seeds}"
            cells.append(
                {
                    "score": _number(standing.score if standing else None, SCORE_DIGITS),
                    "skill": _number(standing.skill if standing else None, SKILL_DIGITS),
                    "missing": missing,
                    "absent": standing is None,
                }
            )
        overall = _number(board.overall(name), SKILL_DIGITS)
        rows.append({"series": report.series[name], "overall": overall, "cells": cells})
    floors = {task: board.floors(task) for task in board.tasks}
    named = []
    for key, label in _FLOORS.items():
        values = [floors[task][key] for task in board.tasks]
        named.append(
            {"label": label, "scores": [None if v is None else f"{v:.4f}" for v in values]}
        )
    # What the rows are sorted by at first: the first column that tells any two of them apart.
    columns = [[row["overall"] for row in rows]]
    for index, _ in enumerate(board.tasks):
        columns.append([row["cells"][index]["skill"] for row in rows])
        columns.append([row["cells"][index]["score"] for row in rows])
    sorted_by = next((i for i, column in enumerate(columns) if any(column)), None)
    # The table has scores before skills.
    if sorted_by:
        sorted_by += 1 if sorted_by % 2 else -1
    return {"rows": rows, "floors": named, "sorted_by": sorted_by}


def _number(estimate: Estimate | None, digits: int) -> dict[str, str] | None:
    if estimate is None:
        return None
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{fixed(estimate.low, digits)} to {fixed(estimate.high, digits)}"
    return {
        "text": fixed(estimate.value, digits),
        "interval": interval,
        "sort": f"{estimate.value:.9f}",
    }


def fixed(value: float, digits: int, *, sign: bool = False) -> str:
    """A number with a proper minus, and none before a zero."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "−")


def comparisons_view(report: Report) -> list[dict[str, Any]]:
    """Over all tasks and task by task, every two algorithms from both sides."""
    found: dict[str, dict[tuple[str, str], Comparison]] = {}
    for pair in report.board.comparisons:
        sides = found.setdefault(pair.task, {})
        sides[pair.one, pair.other] = pair.comparison
        sides[pair.other, pair.one] = Comparison(
            _turned(pair.comparison.ahead, 0.0), _turned(pair.comparison.improvement, 1.0)
        )
    order = [task for task in ("all", *report.board.tasks) if task in found]
    return [_comparison(report, task, found[task]) for task in order]


def _comparison(
    report: Report, task: str, found: Mapping[tuple[str, str], Comparison]
) -> dict[str, Any]:
    names = [n for n in report.ranked if any(n in pair for pair in found)]
    rows = [
        {
            "name": one,
            "cells": [
                _beside(found[one, other]) if (one, other) in found else None for other in names
            ],
        }
        for one in names
    ]
    # Each two once, the one of higher rank first.
    pairs = [
        {"one": one, "other": other, **_beside(found[one, other])}
        for one, other in combinations(names, 2)
        if (one, other) in found
    ]
    return {"task": task, "names": names, "rows": rows, "pairs": pairs}


def _beside(found: Comparison) -> dict[str, Any]:
    chance, ahead = found.improvement, found.ahead
    sure = False
    if chance.low is not None and chance.high is not None:
        sure = not chance.low <= 0.5 <= chance.high
    return {
        "percent": f"{100 * chance.value:.0f}",
        "level": min(int(chance.value * N_LEVELS), N_LEVELS - 1),
        "sure": sure,
        "ahead": fixed(ahead.value, SCORE_DIGITS, sign=True),
        "ahead_interval": _interval(ahead, SCORE_DIGITS, 1.0, sign=True),
        "interval": _interval(chance, 0, 100.0),
    }


def _turned(estimate: Estimate, whole: float) -> Estimate:
    """The same seen from the other side."""
    low = None if estimate.high is None else whole - estimate.high
    high = None if estimate.low is None else whole - estimate.low
    return Estimate(whole - estimate.value, low, high, estimate.n)


def _interval(estimate: Estimate, digits: int, unit: float, *, sign: bool = False) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    ends = [fixed(unit * end, digits, sign=sign) for end in (estimate.low, estimate.high)]
    return " to ".join(ends)
