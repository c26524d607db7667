"""What the page of a report shows, as plain texts, numbers and pictures for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from progressgym_env.benchmarks.matrix import Matrix
from progressgym_env.benchmarks.report_dialogue import dialogue_view
from progressgym_env.benchmarks.report_series import Group, Report
from progressgym_env.benchmarks.report_svg import Line, forest, line_chart, line_sample
from progressgym_env.benchmarks.report_tables import (
    SCORE_DIGITS,
    SKILL_DIGITS,
    comparisons_view,
    fixed,
    leaderboard_view,
)
from progressgym_env.benchmarks.run_data import RunData
from progressgym_env.values.dimensions import DIMENSIONS

__all__ = ["HEAT_LEVELS", "heat_scale", "page_view", "run_headline"]

HEAT_LEVELS = 10
_MOST_TRACEBACKS, _MOST_LETTERS = 20, 2_000


def page_view(report: Report) -> dict[str, Any]:
    """All that the template asks for."""
    data, board = report.data, report.board
    return {
        "title": f"{run_headline(data)} · progressgym",
        "headline": run_headline(data),
        "header": _header(data),
        "n_done": len(data.episodes),
        "n_cells": len(data.cells),
        "tasks": board.tasks,
        "notes": board.notes,
        "no_history": data.no_history,
        "leaderboard": leaderboard_view(report),
        "forests": _forests(report) if data.episodes else [],
        "comparisons": comparisons_view(report),
        "legend": _legend(report),
        "values": [_values(report, task, groups) for task, groups in _played(report)],
        "centuries": [_centuries(task, groups) for task, groups in _played(report)],
        "heat": _heat(report),
        "dialogue": dialogue_view(report),
        "failures": _failures(data),
    }


def run_headline(data: RunData) -> str:
    """What was played, in a line."""
    challenges = list(dict.fromkeys(cell.challenge.capitalize() for cell in data.cells))
    listed = " and ".join(filter(None, (", ".join(challenges[:-1]), challenges[-1])))
    return f"{listed} through history “{_history_name(data)}”"


def heat_scale(report: Report) -> float:
    """The distance that the last colour of all heat maps stands for."""
    found = [g.distances.max() for _, gs in _played(report) for g in gs if g.distances is not None]
    return float(max(np.ceil(max(found, default=0.1) * 10) / 10, 0.1))


def _played(report: Report) -> list[tuple[str, tuple[Group, ...]]]:
    return [(task, groups) for task, groups in report.groups.items() if groups]


def _history_name(data: RunData) -> str:
    told = data.config.get("history")
    return str(told.get("name", "?")) if isinstance(told, Mapping) else "?"


def _header(data: RunData) -> dict[str, Any]:
    config, matrix = data.config, data.matrix
    told = config["history"]
    seeds = matrix.seeds
    consecutive = seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    many = consecutive and len(seeds) > 2
    span = f"{seeds[0]} to {seeds[-1]}" if many else ", ".join(map(str, seeds))
    names = data.centuries
    updates = dict.fromkeys(
        c.update + ("" if c.update_from == "current" else f" from {c.update_from}")
        for c in data.cells
    )
    facts = {
        "History": f"{_history_name(data)}" + (", synthetic" if told.get("synthetic") else ""),
        "Questions": told.get("questions"),
        "Centuries": f"{names[0]} to {names[-1]} ({len(names)})" if names else "not known",
        "Challenges": ", ".join(dict.fromkeys(cell.task for cell in data.cells)),
        "Agents": ", ".join(dict.fromkeys(cell.agent for cell in data.cells)),
        "Updates": ", ".join(updates),
        "Seeds": f"{span} ({len(seeds)})" if len(seeds) > 1 else span,
        "Episodes": f"{len(data.episodes)} of {len(data.cells)} finished",
        "Begun": str(config.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
        "progressgym-env": config.get("package_version"),
        "Processor": config.get("processor"),
        "Platform": config.get("platform"),
        "Device": f"{matrix.device}, {_engine(matrix)}, threads {matrix.threads}",
    }
    hashes = {
        "Configuration": config.get("config_hash"),
        "History": config.get("history_digest"),
        "Questions": config.get("question_set_hash"),
    }
    versions = config.get("versions")
    software = {"Python": config.get("python")}
    software |= dict(versions) if isinstance(versions, Mapping) else {}
    return {
        "facts": {k: str(v) for k, v in facts.items() if v},
        "hashes": {k: str(v) for k, v in hashes.items() if v},
        "software": {k: str(v) for k, v in software.items() if v},
        "synthetic": bool(told.get("synthetic")),
        "status": data.status or "without a summary",
        "complete": len(data.episodes) == len(data.cells),
    }


def _engine(matrix: Matrix) -> str:
    """What measured and replied, and over how much of a machine."""
    size = matrix.tensor_parallel_size
    return matrix.engine + (f" over {size} GPUs" if size > 1 else "")


def _forests(report: Report) -> list[dict[str, Any]]:
    board = report.board
    skills, scores = [], []
    overall = [(report.series[n], e) for n in report.ranked if (e := board.overall(n))]
    ends = {"hold": 0.0, "oracle": 1.0}
    if overall and len(board.tasks) > 1:
        title = "Skill over all tasks"
        picture = forest(overall, ends, title=title, digits=SKILL_DIGITS)
        skills.append({"name": "all tasks (IQM)", "svg": picture})
    for task in board.tasks:
        standings = [(report.series[n], board.standing(n, task)) for n in report.ranked]
        found = [(series, s.skill) for series, s in standings if s and s.skill]
        if found:
            title = f"Skill on {task}"
            picture = forest(found, ends, title=title, digits=SKILL_DIGITS)
            skills.append({"name": task, "svg": picture})
        found = [(series, s.score) for series, s in standings if s and s.score]
        if found:
            title = f"Score on {task}"
            marks = {k: v for k, v in board.floors(task).items() if v is not None}
            picture = forest(found, marks, title=title, digits=SCORE_DIGITS)
            scores.append({"name": task, "svg": picture})
    parts = [{"name": "Skill", "charts": skills}, {"name": "Score", "charts": scores}]
    return [part for part in parts if part["charts"]]


def _legend(report: Report) -> dict[str, Any]:
    played = {group.series for _, groups in _played(report) for group in groups}
    items = [
        {"series": series, "sample": line_sample(series)}
        for series in report.series.values()
        if series in played
    ]
    history = report.data.history
    truth = []
    if history is not None:
        truth.append(("people, measured", line_sample(None, "measured")))
        if history.planted is not None:
            truth.append(("people, planted", line_sample(None, "planted")))
    proxies = any(g.episodes[0].proxy_values is not None for _, gs in _played(report) for g in gs)
    return {"items": items, "truth": truth, "proxies": proxies}


def _values(report: Report, task: str, groups: Sequence[Group]) -> dict[str, Any]:
    history, names = report.data.history, report.data.centuries
    pictured = [(group, report.trajectories(group)) for group in groups]
    pictured = [(group, episodes) for group, episodes in pictured if episodes]
    banded = len(pictured) <= 6
    families: dict[str, list[dict[str, Any]]] = {}
    for dimension in DIMENSIONS:
        lines = []
        for group, episodes in pictured:
            own = {
                "": [episode.examinee_values for episode in episodes],
                "proxy": [e.proxy_values for e in episodes if e.proxy_values is not None],
            }
            for kind, rows in own.items():
                if rows:
                    values = np.array(rows)[:, :, dimension.index]
                    lines.append(_line(group, kind, values, banded=banded))
        if history is not None:
            measured = history.values[:, dimension.index]
            lines.append(Line("people of the century, measured", measured, None, "measured"))
            if history.planted is not None:
                planted = history.planted[:, dimension.index]
                lines.append(Line("people of the century, planted", planted, None, "planted"))
        if lines:
            title = f"{dimension.label}: values over the centuries, {task}"
            svg = line_chart(lines, names, title=title, size=(190.0, 118.0), domain=(-0.03, 1.03))
            families.setdefault(dimension.family, []).append({"label": dimension.label, "svg": svg})
    seeds = sorted({e.seed for _, episodes in pictured for e in episodes})
    return {
        "task": task,
        "families": families,
        "seeds": seeds,
        "alone": len(seeds) == 1 < len(report.data.matrix.seeds) and not report.one_history,
        "banded": banded and len(seeds) > 1,
    }


def _line(group: Group, kind: str, values: Any, *, banded: bool) -> Line:
    band = banded and len(values) > 1
    of = ", human proxy" if kind else ""
    return Line(
        f"{group.series.name}{of}",
        values.mean(axis=0),
        group.series,
        kind,
        values.min(axis=0) if band else None,
        values.max(axis=0) if band else None,
    )


def _centuries(task: str, groups: Sequence[Group]) -> dict[str, Any]:
    names = [step.century for step in groups[0].episodes[0].steps]
    lines = [Line(g.series.name, g.by_century, g.series) for g in groups]
    title = f"What every century paid, {task}"
    rows = [
        {
            "series": g.series,
            "seeds": g.seeds_text,
            "numbers": [fixed(v, 3) for v in g.by_century],
        }
        for g in groups
    ]
    svg = line_chart(lines, names, title=title, size=(360.0, 210.0))
    return {"task": task, "svg": svg, "names": names, "rows": rows}


def _heat(report: Report) -> dict[str, Any]:
    scale = heat_scale(report)
    tasks = []
    for task, groups in _played(report):
        maps = []
        for group in groups:
            if group.distances is None:
                continue
            rows = []
            for dimension in DIMENSIONS:
                column = group.distances[:, dimension.index]
                rows.append(
                    {"label": dimension.label, "cells": [_heat_cell(v, scale) for v in column]}
                )
            means = [_heat_cell(v, scale) for v in group.distances.mean(axis=1)]
            maps.append(
                {
                    "series": group.series,
                    "seeds": group.seeds_text,
                    "names": [step.century for step in group.episodes[0].steps],
                    "rows": rows,
                    "means": means,
                    "mean": fixed(float(group.distances.mean()), 3),
                }
            )
        if maps:
            tasks.append({"task": task, "maps": maps})
    ends = [f"{scale * level / HEAT_LEVELS:.2f}" for level in range(HEAT_LEVELS)]
    return {"tasks": tasks, "scale": f"{scale:.1f}", "levels": ends}


def _heat_cell(value: float, scale: float) -> tuple[int, str]:
    """Colour and text of a cell: ``.07``."""
    level = min(int(value / scale * HEAT_LEVELS), HEAT_LEVELS - 1)
    return level, f"{value:.2f}".removeprefix("0")


def _failures(data: RunData) -> list[dict[str, str]]:
    found = []
    for number, (cell, failure) in enumerate(data.failures.items()):
        traceback = failure.traceback if number < _MOST_TRACEBACKS else ""
        found.append(
            {
                "name": f"{cell.algorithm} on {cell.task}, seed {cell.seed}",
                "error": failure.error,
                "message": _shortened(failure.message),
                "traceback": _shortened(traceback),
            }
        )
    return found


def _shortened(text: str) -> str:
    """Only the end of a long text: errors say there what it was."""
    return text if len(text) <= _MOST_LETTERS else "… " + text[-_MOST_LETTERS:]
