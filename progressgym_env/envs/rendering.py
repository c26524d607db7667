"""Pictures and text of episodes: value trajectories over the centuries.

Figures are built on matplotlib's object interface with the Agg canvas: no pyplot, no global
state, no display. matplotlib is imported when a figure is drawn, not with this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env.envs.trajectory import Trajectory
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.values.dimensions import DIMENSIONS, N_DIMENSIONS
from progressgym_env.values.embedding import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["trajectory_array", "trajectory_figure", "trajectory_text"]

_COLUMNS, _ROWS = 5, 4
# Okabe and Ito's palette, told apart by colour-blind readers too; yellow is left out as too
# pale for a line.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#666666")
# Once the colours are through, they come again with the next marker. Name and size.
_MARKERS = (("o", 3.2), ("^", 5.0), ("s", 4.0), ("X", 5.0))
_JUDGE_LOOK: dict[str, Any] = {"color": "0.15", "linewidth": 2.2, "marker": "o", "markersize": 3.2}
_BARS = "▁▂▃▄▅▆▇█"
# Three such rows of bars, with numbers and labels, fit into 110 columns.
_MOST_BARS = 18


def trajectory_figure(
    names: Sequence[str],
    judge_values: ArrayLike,
    examinee_values: Mapping[str, ArrayLike],
    proxy_values: Mapping[str, ArrayLike] | None = None,
    *,
    title: str = "",
    judge_label: str = "judge",
    size: tuple[float, float] = (12.8, 7.2),
    dpi: float = 100.0,
) -> Figure:
    """Nineteen small panels, one a dimension: values over the centuries.

    Args:
        names: names of all centuries, for the horizontal axis.
        judge_values: (n, 19), n ≤ len(names); the people of the first n centuries.
        examinee_values: label → (m, 19), or (n_episodes, m, 19) for a mean line with a band from
            lowest to highest; m ≤ len(names), row i at century i. Solid lines.
        proxy_values: label → the same for human proxies. Dashed lines; a label that also stands
            in ``examinee_values`` has the same colour and marker there.
        title: heading.
        judge_label: what the judge is called in the legend.
        size: width and height in inches.
        dpi: dots an inch, for pixel formats.

    Returns:
        A figure with an Agg canvas; ``savefig`` writes PNG or SVG.

    Raises:
        InvalidArgumentError: an array has another shape.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    judge = _episodes(judge_values, judge_label, len(names))
    examinees = {k: _episodes(v, k, len(names)) for k, v in examinee_values.items()}
    proxies = {k: _episodes(v, k, len(names)) for k, v in (proxy_values or {}).items()}
    labels = list(dict.fromkeys([*examinees, *proxies]))
    looks = {label: _look(i) for i, label in enumerate(labels)}

    figure = Figure(figsize=size, dpi=dpi)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, x=0.01, y=0.99, ha="left")
    grid = figure.add_gridspec(
        _ROWS, _COLUMNS, left=0.035, right=0.99, bottom=0.065, top=0.915, hspace=0.36, wspace=0.12
    )
    for dimension in DIMENSIONS:
        row, column = divmod(dimension.index, _COLUMNS)
        axes = figure.add_subplot(grid[row, column])
        _draw(axes, judge, dimension.index, _JUDGE_LOOK)
        for label, episodes in examinees.items():
            _draw(axes, episodes, dimension.index, looks[label])
        for label, episodes in proxies.items():
            _draw(axes, episodes, dimension.index, {**looks[label], "linestyle": "--"})
        below_is_free = dimension.index + _COLUMNS >= N_DIMENSIONS
        _dress(axes, names, dimension.label, left=column == 0, bottom=below_is_free)
    _add_legend(figure, judge_label, list(examinees), list(proxies), looks)
    return figure


def trajectory_array(trajectory: Trajectory, title: str = "") -> NDArray[np.uint8]:
    """An episode so far as a picture of 1280 × 720 dots.

    Returns:
        (720, 1280, 3) uint8, red, green, blue.
    """
    proxies = trajectory.proxy_values
    figure = trajectory_figure(
        trajectory.names,
        trajectory.judge_values,
        {"examinee": trajectory.examinee_values},
        None if proxies is None else {"human proxy": proxies},
        title=f"{title}: {_standing(trajectory)}",
        judge_label="people of the century",
    )
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def trajectory_text(trajectory: Trajectory, title: str = "") -> str:
    """An episode so far as a table: a line a dimension, with the present value and a bar a century.

    Bars run from the oldest century to the present one, on a fixed scale from 0 (``▁``) to 1
    (``█``); of a history longer than 18 centuries, the latest are shown. Examinee and human proxy
    get the present century's bar once its step is done.
    """
    columns = {"judge": trajectory.judge_values, "examinee": trajectory.examinee_values}
    if trajectory.proxy_values is not None:
        columns = {
            "people": trajectory.judge_values,
            "proxy": trajectory.proxy_values,
            "examinee": trajectory.examinee_values,
        }
    first, last = max(0, len(trajectory.centuries) - _MOST_BARS), int(trajectory.centuries[-1])
    label_width = max(len(d.label) for d in DIMENSIONS)
    width = len("0.000 ") + min(max(len(trajectory.names), 2), _MOST_BARS)
    lines = [
        f"{title}: {_standing(trajectory)}",
        f"a bar a century, {trajectory.names[first]} to {trajectory.names[last]}; ▁ is 0, █ is 1",
        "   ".join([f"{'':{label_width}}", *(f"{head:{width}}" for head in columns)]).rstrip(),
    ]
    for dimension in DIMENSIONS:
        rows = [values[:, dimension.index] for values in columns.values()]
        cells = [f"{row[-1]:.3f} {_bars(row[first:])}" for row in rows]
        cells = [f"{dimension.label:{label_width}}", *(f"{cell:{width}}" for cell in cells)]
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)


def _standing(trajectory: Trajectory) -> str:
    present = int(trajectory.centuries[-1])
    return (
        f"century {trajectory.names[present]} ({present + 1} of {len(trajectory.names)}), "
        f"{len(trajectory.rewards)} steps done, reward so far {trajectory.rewards.sum():.4f}"
    )


def _bars(values: FloatArray) -> str:
    heights = np.clip(values * len(_BARS), 0, len(_BARS) - 1).astype(int)
    return "".join(_BARS[height] for height in heights)


def _episodes(values: ArrayLike, label: str, n_centuries: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    episodes = array[None] if array.ndim == 2 else array
    fits = episodes.ndim == 3 and episodes.shape[-1] == N_DIMENSIONS
    if not fits or episodes.shape[1] > n_centuries or 0 in episodes.shape:
        raise InvalidArgumentError(
            f"values of {label!r} have shape {array.shape}; a trajectory is (m, {N_DIMENSIONS}) or "
            f"(n_episodes, m, {N_DIMENSIONS}) with 1 to {n_centuries} rows, one a century"
        )
    return episodes


def _look(index: int) -> dict[str, Any]:
    """How the line of an agent is drawn: 32 looks, after which they come again."""
    turn, colour = divmod(index, len(_COLOURS))
    marker, size = _MARKERS[turn % len(_MARKERS)]
    return {"color": _COLOURS[colour], "linewidth": 1.5, "marker": marker, "markersize": size}


def _draw(axes: Any, episodes: FloatArray, dimension: int, look: Mapping[str, Any]) -> None:
    values = episodes[:, :, dimension]
    centuries = np.arange(values.shape[1])
    # A single point is no line; the marker shows where an episode stands.
    axes.plot(centuries, values.mean(axis=0), **look)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(centuries, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _dress(axes: Any, names: Sequence[str], label: str, *, left: bool, bottom: bool) -> None:
    axes.set_title(label, fontsize=8.5, loc="left", pad=3)
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks((0.0, 0.5, 1.0))
    axes.set_xlim(-0.3, len(names) - 0.7)
    # Every other name at most, ending with the last, so that names do not run together.
    ticks = range((len(names) - 1) % 2, len(names), max(2, len(names) // 4 // 2 * 2))
    axes.set_xticks(list(ticks))
    axes.set_xticklabels([names[i] for i in ticks] if bottom else [])
    axes.set_yticklabels(("0", "0.5", "1") if left else ())
    axes.tick_params(labelsize=7.5, length=2, pad=2)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _add_legend(
    figure: Any,
    judge_label: str,
    examinees: Sequence[str],
    proxies: Sequence[str],
    looks: Mapping[str, Mapping[str, Any]],
) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **_JUDGE_LOOK, label=judge_label)]
    handles += [Line2D([], [], **looks[k], label=k) for k in examinees]
    # A look that stands for an agent already needs no line of its own for the agent's proxy.
    dashed = {k: looks[k] for k in proxies if k not in examinees}
    if len(dashed) < len(proxies):
        dashed["dashed: its human proxy"] = {"color": "0.45", "linewidth": 1.5}
    for label, look in dashed.items():
        handles.append(Line2D([], [], **{**look, "linestyle": "--"}, label=label))
    # The twentieth place of the grid; two columns of small print where there are many.
    many = len(handles) > 8
    small: dict[str, Any] = {"fontsize": 6.3, "ncols": 2, "columnspacing": 0.6, "handlelength": 1.4}
    figure.legend(
        handles=handles, loc="center", bbox_to_anchor=(0.898, 0.14), frameon=False,
        borderpad=0.0, handletextpad=0.5, **(small if many else {"fontsize": 8.5}),
    )  # fmt: skip
