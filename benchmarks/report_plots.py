"""Pictures of a report as files, PNG and SVG, for papers and slides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from progressgym_env.benchmarks.report_series import Group, Report, Series
from progressgym_env.benchmarks.report_view import heat_scale, run_headline
from progressgym_env.benchmarks.statistics import Estimate
from progressgym_env.envs.rendering import trajectory_figure
from progressgym_env.files import atomic_path
from progressgym_env.values.dimensions import DIMENSIONS
from progressgym_env.values.embedding import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_report"]

_COLOURS = (
    "#0b64a0", "#b8490b", "#00755a", "#a33a79", "#80620a", "#1f86ab", "#6a3d9a", "#4d7a12",
)  # fmt: skip
_GREY = "#75706a"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 3)), (0, (2, 3)), (0, (9, 3)), "-.", ":")
# Of the same kind as the page's own: from paper to a deep reddish brown.
_HEAT = ("#fbf2e4", "#f5cfa3", "#eba262", "#c9622c", "#963912", "#581c06")
_MOST_LETTERS, _DPI = 40, 150


def draw_report(folder: Path, report: Report) -> None:
    """Write the pictures into an existing folder, each atomically.

    ===========================  ================================================================
    ``skill.*``, ``score.*``     by challenge, with 95% intervals; where there are any
    ``values-TASK.*``            the examinees' values over the centuries, in nineteen panels
    ``distances-TASK.*``         |value − target|, century by dimension, a panel an algorithm
    ``centuries.*``              what every century paid
    ===========================  ================================================================
    """
    title = _text(run_headline(report.data), 90)
    board = report.board
    standings = {
        task: [(report.series[n], board.standing(n, task)) for n in report.ranked]
        for task in board.tasks
    }
    skills = {t: [(s, e.skill) for s, e in rows if e and e.skill] for t, rows in standings.items()}
    scores = {t: [(s, e.score) for s, e in rows if e and e.score] for t, rows in standings.items()}
    floors = {
        task: {k: v for k, v in board.floors(task).items() if v is not None} for task in board.tasks
    }
    ends = {task: {"hold": 0.0, "oracle": 1.0} for task in board.tasks}
    if any(skills.values()):
        _save(folder / "skill", lambda: _forest(skills, ends, f"Skill: {title}"))
    if any(scores.values()):
        _save(folder / "score", lambda: _forest(scores, floors, f"Official score: {title}"))
    played = {task: groups for task, groups in report.groups.items() if groups}
    for task, groups in played.items():
        _save(folder / f"values-{_slug(task)}", partial(_values, report, task, groups))
        mapped = [g for g in groups if g.distances is not None]
        if mapped:
            name = f"distances-{_slug(task)}"
            _save(folder / name, partial(_distances, report, task, mapped))
    if played:
        _save(folder / "centuries", lambda: _centuries(played, f"What centuries paid: {title}"))


def _save(stem: Path, draw: Callable[[], Figure]) -> None:
    import matplotlib as mpl

    figure = draw()
    engine = figure.get_layout_engine()
    if engine is not None:
        # Once for all formats; finding a layout takes longer than drawing.
        engine.execute(figure)
        figure.set_layout_engine("none")
    # Fixed, so that the same run gives the same files.
    with mpl.rc_context({"svg.hashsalt": "progressgym"}):
        for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
            with atomic_path(stem.with_name(stem.name + suffix)) as path:
                figure.savefig(path, dpi=_DPI, metadata=metadata)


def _figure(width: float, height: float, title: str) -> Figure:
    # Not pyplot, which keeps figures and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.006, 0.006, 0.988, 0.988))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _forest(
    parts: Mapping[str, Sequence[tuple[Series, Estimate]]],
    marks: Mapping[str, Mapping[str, float]],
    title: str,
) -> Figure:
    """A panel a task, a row an algorithm."""
    parts = {task: rows for task, rows in parts.items() if rows}
    names = list(dict.fromkeys(series for rows in parts.values() for series, _ in rows))
    figure = _figure(3.2 + 3.1 * len(parts), 1.5 + 0.3 * len(names), title)
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, (task, rows) in zip(panels, parts.items(), strict=True):
        for series, estimate in rows:
            y, colour = names.index(series), _colour(series)
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [y, y], color=colour, alpha=0.55, lw=2.2)
            axes.plot([estimate.value], [y], "o", color=colour, markersize=5)
        _draw_marks(axes, marks[task])
        axes.set_title(_text(task), fontsize=9, loc="left")
        axes.set_yticks(range(len(names)), [_text(s.name) for s in names], fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=7.5)
        _bare(axes)
    return figure


def _draw_marks(axes: Any, marks: Mapping[str, float]) -> None:
    """Upright lines with their names, one below the other where they stand close."""
    for value in marks.values():
        axes.axvline(value, color="0.55", linewidth=0.9, linestyle=":")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high)
    placed: list[float] = []
    for label, value in marks.items():
        near = sum(abs(value - other) < 0.04 * (high - low) for other in placed)
        placed.append(value)
        axes.annotate(
            label, (value, 1.0 - 0.12 * near), xycoords=("data", "axes fraction"), xytext=(2, -2),
            textcoords="offset points", fontsize=6.5, color="0.4", rotation=90, va="top",
        )  # fmt: skip


def _values(report: Report, task: str, groups: Sequence[Group]) -> Figure:
    history, names = report.data.history, report.data.centuries
    examinees: dict[str, FloatArray] = {}
    proxies: dict[str, FloatArray] = {}
    for group in groups:
        episodes = report.trajectories(group)
        if episodes:
            # Names of agents are free texts: the first is kept where two look alike when cut.
            label = _text(group.series.name)
            examinees.setdefault(label, np.stack([e.examinee_values for e in episodes]))
            states = [e.proxy_values for e in episodes if e.proxy_values is not None]
            if states:
                proxies.setdefault(label, np.stack(states))
    planted = {} if history is None or history.planted is None else {"planted": history.planted}
    first = next(iter(examinees.values()))
    if not names:
        names = tuple(map(str, range(first.shape[1])))
    return trajectory_figure(
        names,
        first.mean(axis=0) if history is None else history.values,
        {**examinees, **planted},
        proxies or None,
        title=f"{_text(task)}: {_text(run_headline(report.data), 90)}",
        judge_label="people of the century" if history is not None else "first algorithm",
    )


def _distances(report: Report, task: str, groups: Sequence[Group]) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap

    n_columns = min(len(groups), 4)
    n_rows = -(-len(groups) // n_columns)
    title = f"|value − target|, {_text(task)}: {_text(run_headline(report.data), 90)}"
    figure = _figure(2.4 + 2.6 * n_columns, 0.9 + 4.0 * n_rows, title)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).flat
    colours = LinearSegmentedColormap.from_list("distance", _HEAT)
    image: Any = None
    # Groups first: zip takes one more of what stands there before it sees that the other ends.
    for number, (group, axes) in enumerate(zip(groups, panels, strict=False)):
        assert group.distances is not None
        image = axes.imshow(
            group.distances.T, vmin=0.0, vmax=heat_scale(report), cmap=colours, aspect="auto"
        )
        names = [step.century for step in group.episodes[0].steps]
        shown = range(0, len(names), -(-len(names) // 4))
        axes.set_xticks(list(shown), [_text(names[i], 10) for i in shown], fontsize=7)
        labels = [d.label for d in DIMENSIONS] if number % n_columns == 0 else []
        axes.set_yticks(range(len(DIMENSIONS)) if labels else [], labels, fontsize=7)
        axes.set_title(_text(group.series.name), fontsize=8, loc="left")
        axes.tick_params(length=0)
    for axes in list(panels):
        axes.remove()
    figure.colorbar(image, ax=figure.axes, shrink=0.4, pad=0.01).ax.tick_params(labelsize=7)
    return figure


def _centuries(played: Mapping[str, Sequence[Group]], title: str) -> Figure:
    from matplotlib.lines import Line2D

    figure = _figure(1.0 + 4.0 * len(played), 4.0, title)
    panels = figure.subplots(1, len(played), squeeze=False)[0]
    series: dict[Series, Any] = {}
    for axes, (task, groups) in zip(panels, played.items(), strict=True):
        for group in groups:
            look = {"color": _colour(group.series), "linestyle": _DASHES[group.series.dash]}
            names = [_text(step.century, 10) for step in group.episodes[0].steps]
            axes.plot(range(len(names)), group.by_century, linewidth=1.5, **look)
            axes.set_xticks(range(len(names)), names, fontsize=7, rotation=45)
            series[group.series] = Line2D([], [], label=_text(group.series.name), **look)
        axes.set_title(_text(task), fontsize=9, loc="left")
        axes.tick_params(axis="y", labelsize=7.5)
        _bare(axes)
    figure.legend(
        handles=list(series.values()), loc="outside lower left", ncols=max(2, len(played)),
        fontsize=7.5, frameon=False,
    )  # fmt: skip
    return figure


def _colour(series: Series) -> str:
    return _GREY if series.reference else _COLOURS[series.colour]


def _bare(axes: Any) -> None:
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _text(text: str, most: int = _MOST_LETTERS) -> str:
    """A text for matplotlib: in one line, of one length at most, and never taken for a formula."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    cut = line if len(line) <= most else line[: most - 1] + "…"
    return cut.replace("$", r"\$")


def _slug(task: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", task)
