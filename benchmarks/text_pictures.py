"""What the pictures of a history's text are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "bare", "century_ticks", "new_figure", "plain", "save", "square_heat"]

# The report's.
COLOURS = (
    "#0b64a0", "#b8490b", "#00755a", "#a33a79", "#80620a", "#1f86ab", "#6a3d9a", "#4d7a12",
)  # fmt: skip
_HEAT = ("#fbf2e4", "#f5cfa3", "#eba262", "#c9622c", "#963912", "#581c06")
_DPI = 150


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure, in inches, with a title at the left."""
    # Not pyplot, which keeps figures and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.006, 0.006, 0.988, 0.988))
    figure.suptitle(plain(title, 400, lines=True), fontsize=10.5, x=0.01, ha="left")
    return figure


def save(stem: Path, figure: Figure) -> tuple[Path, Path]:
    """Write ``stem.png`` and ``stem.svg``, atomically; the same figure gives the same bytes."""
    import matplotlib as mpl

    engine = figure.get_layout_engine()
    if engine is not None:
        # Once for both formats; finding a layout takes longer than drawing.
        engine.execute(figure)
        figure.set_layout_engine("none")
        # The solver's last digits vary from run to run, and names inside an SVG are hashes of them.
        for axes in figure.axes:
            left, bottom, width, height = axes.get_position(original=True).bounds
            rounded = (round(left, 6), round(bottom, 6), round(width, 6), round(height, 6))
            axes.set_position(rounded)
    png, svg = (stem.with_name(stem.name + suffix) for suffix in (".png", ".svg"))
    with mpl.rc_context({"svg.hashsalt": "progressgym"}):
        for target, metadata in ((png, None), (svg, {"Date": None})):
            with atomic_path(target) as path:
                figure.savefig(path, dpi=_DPI, metadata=metadata)
    return png, svg


def square_heat(
    values: NDArray[np.float64],
    cells: Sequence[Sequence[str]],
    names: Sequence[str],
    *,
    title: str,
    axes: tuple[str, str],
    scale: str | None,
    marks: Mapping[int, str] | None = None,
    on: Any = None,
) -> Figure:
    """A heat map of centuries by centuries, with a text in every cell and the diagonal outlined.

    Args:
        values: (n, n), what colours show; NaN stays white.
        cells: n × n texts.
        names: n.
        title: above it.
        axes: what columns and rows are.
        scale: what colours stand for, beside a bar; None draws no bar.
        marks: row → what is put behind the diagonal's text.
        on: where to draw; None makes a figure.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    n = len(names)
    figure: Figure = (
        on.figure if on is not None else new_figure(1.9 + 0.68 * n, 1.5 + 0.55 * n, title)
    )
    place = on if on is not None else figure.add_subplot()
    if on is not None:
        place.set_title(title, fontsize=9, loc="left")
    colours = LinearSegmentedColormap.from_list("heat", _HEAT)
    image: Any = place.imshow(values, cmap=colours, aspect="auto")
    for row in range(n):
        for column in range(n):
            shade = image.norm(values[row, column])
            text = cells[row][column]
            if row == column and marks:
                text += marks.get(row, "")
            place.text(
                column, row, plain(text, 12), ha="center", va="center", fontsize=8,
                color="white" if shade > 0.55 else "0.1",
                fontweight="bold" if row == column else "normal",
            )  # fmt: skip
        corner = (row - 0.5, row - 0.5)
        place.add_patch(
            Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1.4, clip_on=False)
        )
    ticks = [plain(name, 10) for name in names]
    place.set_xticks(range(n), ticks, fontsize=8, rotation=45 if max(map(len, ticks)) > 5 else 0)
    place.set_yticks(range(n), ticks, fontsize=8)
    place.set_xlabel(axes[0], fontsize=9)
    place.set_ylabel(axes[1], fontsize=9)
    place.tick_params(length=0)
    if scale is not None:
        bar = figure.colorbar(image, ax=place, shrink=0.8, pad=0.02)
        bar.set_label(scale, fontsize=8)
        bar.ax.tick_params(labelsize=7.5)
    return figure


def century_ticks(axes: Any, names: Sequence[str]) -> None:
    """Name centuries below: four or five, so that they fit a small panel."""
    shown = range(0, len(names), max(1, -(-(len(names) - 1) // 4)))
    axes.set_xticks(list(shown), [plain(names[i], 10) for i in shown], fontsize=7)


def bare(axes: Any) -> None:
    """A pale grid, and no frame above or at the right."""
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def plain(text: str, most: int = 40, *, lines: bool = False) -> str:
    """A text for matplotlib: of one length at most, and never taken for a formula."""
    kept = "".join(c if c.isprintable() or (lines and c == "\n") else " " for c in text)
    line = kept if lines else " ".join(kept.split())
    cut = line if len(line) <= most else line[: most - 1] + "…"
    return cut.replace("$", r"\$")
