"""Pictures inside the page: small SVGs that take their colours from the page's style sheet.

Built as element trees, which escape whatever text they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from progressgym_env.benchmarks.report_series import Series
from progressgym_env.benchmarks.statistics import Estimate
from progressgym_env.values.embedding import FloatArray

__all__ = ["Line", "forest", "line_chart", "line_sample", "nice_ticks"]

Element = ElementTree.Element
Attributes = dict[str, str | float]
# Dots of text that fit into a picture as wide as a phone.
_MOST_LETTERS = 44


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart.

    Attributes:
        label: what it is, for whoever points at it.
        values: (n,), at the first n places of the horizontal axis.
        series: whose it is; None: the truth.
        kind: a class of the style sheet: ``""``, ``"proxy"``, ``"measured"`` or ``"planted"``.
        low: (n,), lower edge of a band, or None.
        high: (n,), upper edge.
    """

    label: str
    values: FloatArray
    series: Series | None = None
    kind: str = ""
    low: FloatArray | None = None
    high: FloatArray | None = None


def forest(
    rows: Sequence[tuple[Series, Estimate]],
    marks: Mapping[str, float],
    *,
    title: str,
    digits: int,
) -> Markup:
    """Estimates with their intervals, a row each under its name; marks are upright lines.

    Args:
        rows: at least one.
        marks: label → value.
        title: for screen readers.
        digits: after the point, of the numbers written.
    """
    width, step, left, right = 360.0, 33.0, 6.0, 354.0
    ends = [v for _, e in rows for v in (e.value, e.low, e.high) if v is not None]
    low, high = _domain([*ends, *marks.values()])

    def x_of(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    places = {label: x_of(value) for label, value in marks.items()}
    names, n_rows = _place_marks(places, width)
    top = 11.0 + 11.0 * n_rows
    floor = top + step * len(rows)
    svg = _svg(width, floor + 20.0, "forest", title)
    ticks = nice_ticks(low, high, 5)
    decimals = _decimals(ticks)
    for tick in ticks:
        x = x_of(tick)
        _add(svg, "path", {"class": "grid", "d": _move([(x, top), (x, floor)])})
        anchor = "start" if x < left + 14 else "end" if x > right - 14 else "middle"
        at: Attributes = {"class": "tick", "x": x, "y": floor + 13, "text-anchor": anchor}
        _add(svg, "text", at, _tick(tick, decimals))
    for label, x in places.items():
        middle, row = names[label]
        mark = _add(svg, "g", {"class": "mark"})
        _add(mark, "title", {}, label)
        _add(mark, "path", {"d": _move([(x, top - 5 - 11 * row), (x, floor)])})
        at = {"class": "tick", "x": middle, "y": top - 9 - 11 * row}
        _add(mark, "text", {**at, "text-anchor": "middle"}, label)
    for number, (series, estimate) in enumerate(rows):
        y = top + step * number
        group = _add(svg, "g", {"class": _look(series)})
        _add(group, "title", {}, f"{series.name}: {estimate.text(digits)}")
        name: Attributes = {"class": "name", "x": left, "y": y + 13}
        _add(group, "text", name, _cut(series.name))
        number_at: Attributes = {"class": "number", "x": right, "y": y + 13, "text-anchor": "end"}
        _add(group, "text", number_at, f"{estimate.value:.{digits}f}".replace("-", "−"))
        middle = y + 23
        if estimate.low is not None and estimate.high is not None:
            span = [(x_of(estimate.low), middle), (x_of(estimate.high), middle)]
            _add(group, "path", {"class": "whisker", "d": _move(span)})
        dot: Attributes = {"class": "dot", "cx": x_of(estimate.value), "cy": middle, "r": 4}
        _add(group, "circle", dot)
    return _markup(svg)


def line_chart(
    lines: Sequence[Line],
    names: Sequence[str],
    *,
    title: str,
    size: tuple[float, float],
    domain: tuple[float, float] | None = None,
) -> Markup:
    """Lines over the centuries.

    Args:
        lines: at least one.
        names: of the centuries, for the horizontal axis.
        title: for screen readers.
        size: width and height of the picture's own dots.
        domain: ends of the vertical axis; around the values by default.
    """
    width, height = size
    left, right, top, bottom = 26.0, width - 5.0, 6.0, height - 17.0
    low, high = domain or _domain([float(v) for line in lines for v in line.values])
    n = max(len(names), 2)

    def place(index: int, value: float) -> tuple[float, float]:
        share = (value - low) / (high - low)
        return left + (right - left) * index / (n - 1), bottom - (bottom - top) * share

    svg = _svg(width, height, "lines", title)
    ticks = nice_ticks(low, high, 3 if height < 150 else 5)
    digits = _decimals(ticks)
    for tick in ticks:
        y = place(0, tick)[1]
        _add(svg, "path", {"class": "grid", "d": _move([(left, y), (right, y)])})
        at: Attributes = {"class": "tick", "x": left - 4, "y": y + 3.2, "text-anchor": "end"}
        _add(svg, "text", at, _tick(tick, digits))
    for index, anchor in _name_places(len(names)):
        x = place(index, low)[0]
        at = {"class": "tick", "x": x, "y": height - 4, "text-anchor": anchor}
        _add(svg, "text", at, _cut(names[index], 12))
    for line in lines:
        points = [place(i, float(v)) for i, v in enumerate(line.values)]
        group = _add(svg, "g", {**_line_class(line)})
        _add(group, "title", {}, line.label)
        if line.low is not None and line.high is not None:
            edge = [place(i, float(v)) for i, v in enumerate(line.high)]
            edge += [place(i, float(v)) for i, v in enumerate(line.low)][::-1]
            _add(group, "path", {"class": "band", "d": _move(edge) + "Z"})
        if line.kind == "measured" or len(points) == 1:
            for x, y in points:
                _add(group, "circle", {"class": "dot", "cx": x, "cy": y, "r": 2.1})
        _add(group, "path", {"class": "line", "d": _move(points)})
    return _markup(svg)


def line_sample(series: Series | None, kind: str = "") -> Markup:
    """The short piece of line that stands in a legend."""
    svg = Element("svg", {"class": "sample", "viewBox": "0 0 28 10", "aria-hidden": "true"})
    line = Line("", np.zeros(2), series, kind)
    group = _add(svg, "g", {"class": _line_class(line)["class"].removesuffix(" off")})
    _add(group, "path", {"class": "line", "d": "M1 5L27 5"})
    if kind == "measured":
        _add(group, "circle", {"class": "dot", "cx": 14, "cy": 5, "r": 2.4})
    return _markup(svg)


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, no more than ``most``."""
    span = high - low
    power = 10.0 ** np.floor(np.log10(span))
    steps = [factor * power for factor in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0)]
    for step in steps:
        first = int(np.ceil(low / step - 1e-9))
        last = int(np.floor(high / step + 1e-9))
        if last - first + 1 <= most:
            # Adding 0 makes -0 a 0.
            return [round(i * step, 10) + 0.0 for i in range(first, last + 1)]
    return [low, high]


def _place_marks(
    marks: Mapping[str, float], width: float
) -> tuple[dict[str, tuple[float, int]], int]:
    """Where names above upright lines begin, and in which row, so that none runs into another.

    Args:
        marks: label → place of the line.
        width: of the picture.

    Returns:
        Label → middle and row, 0 the lowest; and the number of rows.
    """
    rows: list[list[tuple[float, float]]] = []
    found = {}
    for label, x in marks.items():
        half = 2.9 * len(label) + 2
        start = min(max(x - half, 0.0), width - 2 * half)
        end = start + 2 * half
        free = (
            number
            for number, row in enumerate(rows)
            if all(start > other_end or end < begin for begin, other_end in row)
        )
        row = next(free, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append((start, end))
        found[label] = start + half, row
    return found, len(rows)


def _name_places(n: int) -> list[tuple[int, str]]:
    """Which names stand under a chart, and how they are set: first, middle and last."""
    if n == 0:
        return []
    places = {0: "start", n - 1: "end"} if n > 1 else {0: "start"}
    if n >= 5 and n % 2:
        places[n // 2] = "middle"
    return sorted(places.items())


def _domain(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 0.05
    return low - margin, high + margin


def _decimals(ticks: Sequence[float]) -> int:
    """Digits after the point that tell the ticks of an axis apart."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    return next((n for n in range(7) if abs(step - round(step, n)) < 1e-9), 7)


def _tick(value: float, digits: int) -> str:
    """``0``, ``.5``, ``−1``."""
    text = "0" if value == 0 else f"{value:.{digits}f}".replace("-", "−")
    for sign in ("", "−"):
        if text.startswith(f"{sign}0."):
            return sign + text[len(sign) + 1 :]
    return text


def _look(series: Series) -> str:
    colour = "kr" if series.reference else f"k{series.colour}"
    return f"{colour} d{series.dash}"


def _line_class(line: Line) -> dict[str, str]:
    if line.series is None:
        return {"class": f"truth {line.kind}"}
    hidden = "" if line.series.shown else " off"
    classes = f"{_look(line.series)} {line.kind}".strip() + hidden
    return {"class": classes, "data-series": str(line.series.index)}


def _svg(width: float, height: float, kind: str, title: str) -> Element:
    box = f"0 0 {_number(width)} {_number(height)}"
    return Element("svg", {"class": kind, "viewBox": box, "role": "img", "aria-label": title})


def _add(parent: Element, tag: str, attributes: Attributes, text: str | None = None) -> Element:
    written = {k: v if isinstance(v, str) else _number(v) for k, v in attributes.items()}
    child = ElementTree.SubElement(parent, tag, written)
    child.text = text
    return child


def _move(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _cut(text: str, most: int = _MOST_LETTERS) -> str:
    """A long text without its middle: names differ at both ends."""
    if len(text) <= most:
        return text
    tail = most * 2 // 5
    return text[: most - tail - 1] + "…" + text[-tail:]


def _markup(svg: Element) -> Markup:
    # An element tree has escaped all text by itself.
    return Markup(ElementTree.tostring(svg, encoding="unicode"))
