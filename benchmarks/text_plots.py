"""Pictures of the text that a history was built from, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.benchmarks.text_pictures import (
    COLOURS,
    bare,
    century_ticks,
    new_figure,
    plain,
    save,
    square_heat,
)
from progressgym_env.histories.text.analysis import TextAnalysis
from progressgym_env.histories.text.drift import MeaningDrift
from progressgym_env.histories.text.perplexity_table import SplitTable
from progressgym_env.values.dimensions import DIMENSIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "SPLIT_NAMES",
    "draw_perplexity",
    "draw_text",
    "drift_figure",
    "frequency_figure",
    "overlap_figure",
    "perplexity_figure",
    "source_figure",
]

FloatArray = NDArray[np.float64]

SPLIT_NAMES = {
    "document": "documents held out whole",
    "passage": "held-out passages of documents that were trained on",
    "given": "text that was given",
}
"""What the two kinds of held-out text are called in titles."""

_N_PANEL_COLUMNS, _N_LEGEND = 4, 7


def draw_text(folder: Path, analysis: TextAnalysis, name: str) -> tuple[Path, ...]:
    """Write all pictures into an existing folder, each atomically.

    =====================  ===================================================================
    ``characters.*``       characters of every century, by source
    ``overlap.*``          how many word types centuries share
    ``frequencies.*``      how often each dimension's words are used, with 95% intervals
    ``drift.*``            how the company of value words changes, with the noise floor
    ``perplexity-KIND.*``  every model on every century's held-out text, where it was measured
    =====================  ===================================================================

    Args:
        folder: where to.
        analysis: what to draw.
        name: the history's, for the titles.

    Returns:
        The files, the PNG of each before the SVG. The same analysis gives the same bytes.
    """
    figures: dict[str, Callable[[], Figure]] = {
        "characters": partial(source_figure, analysis, name),
        "overlap": partial(overlap_figure, analysis, name),
        "frequencies": partial(frequency_figure, analysis, name),
    }
    if len(analysis.centuries) > 1:
        figures["drift"] = partial(drift_figure, analysis, name)
    if analysis.perplexity is not None:
        for split, table in analysis.perplexity.splits.items():
            if any(table.passages):
                figures[f"perplexity-{split}"] = partial(perplexity_figure, table, split, name)
    return tuple(path for stem, draw in figures.items() for path in save(folder / stem, draw()))


def draw_perplexity(folder: Path, table: SplitTable, name: str) -> tuple[Path, ...]:
    """Write ``perplexity-given.png`` and ``.svg``: every model on text that was given.

    Args:
        folder: where to; made if it is not there.
        table: of the text.
        name: the history's, for the title.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(save(folder / "perplexity-given", perplexity_figure(table, "given", name)))


def perplexity_figure(table: SplitTable, split: str, name: str) -> Figure:
    """Heat map of perplexity by the row's best; numbers in the cells, the diagonal outlined.

    Args:
        table: of one split; a row without passages stays empty.
        split: its name.
        name: the history's.
    """
    perplexity = table.perplexity
    best = np.full((len(perplexity), 1), np.nan)
    filled = np.array(table.passages) > 0
    best[filled] = perplexity[filled].min(axis=1, keepdims=True)
    wins = [won for won in table.diagonal_wins if won is not None]
    title = (
        f"{name}: perplexity per token, {SPLIT_NAMES[split]}\n"
        f"The century's own model predicts best in {sum(wins)} of {len(wins)} rows (✓)"
    )
    marks = {row: " ✓" for row, won in enumerate(table.diagonal_wins) if won}
    return square_heat(
        perplexity / best,
        [[_number(value) for value in row] for row in perplexity],
        table.centuries,
        title=title,
        axes=("century of the model", "century of the text"),
        scale="perplexity / lowest of the row",
        marks=marks,
    )


def overlap_figure(analysis: TextAnalysis, name: str) -> Figure:
    """Heat maps of shared word types, and of running words that another century knows."""
    overlap = analysis.overlap
    shared = np.array(overlap.jaccard)
    same = [np.nan if value is None else value for value in overlap.same_century]
    shared[np.diag_indices(len(shared))] = same
    title = (
        f"{name}: vocabularies of {overlap.sample_words:,} running words a century, mean of "
        f"{overlap.n_draws} samples"
    )
    figure = new_figure(12.4, 6.0, title)
    known = 100 * np.array(overlap.known)
    for axes, values, heading, labels in (
        (
            figure.add_subplot(1, 2, 1),
            100 * shared,
            "% of word types that two centuries share (Jaccard)\n"
            "Diagonal: two samples of the same century",
            ("", ""),
        ),
        (
            figure.add_subplot(1, 2, 2),
            known,
            "% of running words of the row's century\nthat the sample of the column's knows",
            ("vocabulary of", "words of"),
        ),
    ):
        cells = [["–" if np.isnan(v) else f"{v:.0f}" for v in row] for row in values]
        square_heat(values, cells, analysis.names, title=heading, axes=labels, scale=None, on=axes)
    return figure


def frequency_figure(analysis: TextAnalysis, name: str) -> Figure:
    """A panel a dimension: occurrences per million words, with 95% intervals over documents."""
    found, names = analysis.frequencies, analysis.names
    labels = {dimension.key: dimension.label for dimension in DIMENSIONS}
    n_rows = -(-len(found.dimensions) // _N_PANEL_COLUMNS)
    few, many = min(found.documents), max(found.documents)
    title = (
        f"{name}: words of each value dimension, per million running words\n"
        f"Bars: 95%, resampling documents, {few} to {many} a century: take them for lower bounds"
    )
    figure = new_figure(11.0, 0.9 + 1.75 * n_rows, title)
    panels = figure.subplots(n_rows, _N_PANEL_COLUMNS, sharex=True, squeeze=False)
    places = np.arange(len(names))
    for column, (key, axes) in enumerate(zip(found.dimensions, panels.flat, strict=False)):
        rate = np.array([row[column] for row in found.per_million])
        for place, low, high in zip(places, found.low, found.high, strict=True):
            if low[column] is not None and high[column] is not None:
                ends = [low[column], high[column]]
                axes.plot([place, place], ends, color=COLOURS[0], alpha=0.45, lw=3)
        axes.plot(places, rate, "o-", color=COLOURS[0], markersize=3.5, linewidth=1.2)
        axes.set_title(labels[key], fontsize=8.5, loc="left")
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
        axes.yaxis.get_major_locator().set_params(nbins=4)
        century_ticks(axes, names)
        bare(axes)
    for axes in panels.flat[len(found.dimensions) :]:
        axes.remove()
    for axes in panels.flat[: len(found.dimensions)][-_N_PANEL_COLUMNS:]:
        # The last panel of each column, also above a gap of the last row.
        axes.tick_params(axis="x", labelbottom=True)
    return figure


def drift_figure(analysis: TextAnalysis, name: str) -> Figure:
    """How alike the company of value words stays: to the next century, and to the last."""
    drift = analysis.drift
    compared = sum(any(v is not None for v in word.to_next) for word in drift.words)
    title = (
        f"{name}: the company of value words, cosines of positive PMI vectors\n"
        f"{compared} of {len(drift.words)} words are common enough (at least {drift.min_word} "
        f"times in both centuries); {drift.n_contexts:,} contexts; thin lines: words"
    )
    figure = new_figure(11.0, 5.2, title)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_drift(left, analysis, drift, last=False)
    _draw_drift(right, analysis, drift, last=True)
    left.set_ylabel("cosine", fontsize=9)
    handles, texts = left.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, texts, loc="outside lower left", ncols=2, fontsize=8.5, frameon=False
        )
    return figure


def _draw_drift(axes: Any, analysis: TextAnalysis, drift: MeaningDrift, *, last: bool) -> None:
    names = analysis.names
    cosines = _numbers([w.to_last if last else w.to_next for w in drift.words])
    floors = _numbers([w.floor_last if last else w.floor_next for w in drift.words])
    both = np.isfinite(cosines) & np.isfinite(floors)
    cosines, floors = np.where(both, cosines, np.nan), np.where(both, floors, np.nan)
    places = np.arange(cosines.shape[1])
    for line in cosines:
        axes.plot(places, line, ".-", color="0.82", linewidth=0.5, markersize=2.5, zorder=1)
    shown = both.any(axis=0)
    for values, colour, shift, label in (
        (cosines, COLOURS[0], -0.09, "between centuries: median and middle half of the words"),
        (floors, COLOURS[1], 0.09, "noise floor: halves of the same century's documents"),
    ):
        if not shown.any():
            axes.text(0.5, 0.5, "no word is common enough", transform=axes.transAxes, ha="center")
            break
        low, middle, high = np.nanquantile(values[:, shown], (0.25, 0.5, 0.75), axis=0)
        axes.vlines(places[shown] + shift, low, high, color=colour, linewidth=4, alpha=0.45)
        axes.plot(places[shown] + shift, middle, "o", color=colour, markersize=6, label=label)
    counts = both.sum(axis=0)
    last_name = plain(names[-1], 10)
    ends = [last_name] * len(places) if last else [plain(n, 10) for n in names[1:]]
    texts = [
        f"{plain(one, 10)}\n{other}\n{count} words"
        for one, other, count in zip(names[:-1], ends, counts, strict=True)
    ]
    axes.set_xticks(places, texts, fontsize=7)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_title(
        f"each century and the last, {last_name}" if last else "each century and the next",
        fontsize=9.5, loc="left",
    )  # fmt: skip
    bare(axes)


def source_figure(analysis: TextAnalysis, name: str) -> Figure:
    """A bar a century: characters, by source; sources beyond the largest few are summed."""
    centuries = analysis.centuries
    totals: dict[str, int] = {}
    for century in centuries:
        for source, share in century.sources.items():
            totals[source] = totals.get(source, 0) + share.characters
    ranked = sorted(totals, key=lambda source: (-totals[source], source))
    shown = ranked[:_N_LEGEND]
    parts = {
        source: np.array([c.sources[source].characters if source in c.sources else 0
                          for c in centuries]) / 1e6
        for source in shown
    }  # fmt: skip
    rest = np.array([c.characters for c in centuries]) / 1e6 - sum(parts.values())
    figure = new_figure(8.6, 0.42 * len(centuries) + 2.1, f"{name}: characters by source, millions")
    axes = figure.add_subplot()
    start, places = np.zeros(len(centuries)), np.arange(len(centuries))
    bars = [(plain(s), v, COLOURS[i]) for i, (s, v) in enumerate(parts.items())]
    if len(ranked) > len(shown):
        bars.append((f"{len(ranked) - len(shown)} others", rest, "0.6"))
    for label, values, colour in bars:
        axes.barh(places, values, left=start, color=colour, label=label, height=0.72)
        start = start + values
    for place, (end, century) in enumerate(zip(start, centuries, strict=True)):
        works = f"{century.documents:,} document{'s' if century.documents != 1 else ''}"
        axes.annotate(works, (end, place), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=7.5, color="0.35")  # fmt: skip
    axes.set_yticks(places, [plain(c, 12) for c in analysis.names], fontsize=8.5)
    axes.set_xlim(0, 1.17 * float(start.max()))
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=8)
    bare(axes)
    figure.legend(loc="outside lower left", ncols=4, fontsize=8, frameon=False)
    return figure


def _numbers(rows: Any) -> FloatArray:
    """(n_words, n − 1) with NaN for None."""
    return np.array(rows, dtype=np.float64)


def _number(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
