"""Small charts as inline SVG, which take their colours from the page and are as wide as their column."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike

WIDTH, LEFT, RIGHT, TOP, BELOW = 340, 40, 10, 8, 36
"""Of a chart and its margins, in units of which a letter is about 12 high; a narrow phone shows them at full size."""
ROW = 31
"""Height of a row: its name, and below it one or two intervals."""
SERIES = 6
"""Colours of the style sheet; further lines repeat them with other dashes."""


@dataclass(frozen=True)
class Line:
    """A line of a chart; a point that is not finite interrupts it.

    >>> Line("clean", [0, 1], [0.5, 0.75]).series
    0
    """

    label: str
    """In the legend; empty for none."""
    x: ArrayLike
    y: ArrayLike
    series: int = 0
    """Number of its colour."""
    marked: ArrayLike = field(default=())
    """The numbers of the points that have a dot."""


@dataclass(frozen=True)
class Axis:
    """The range of an axis and what it shows.

    >>> Axis("epoch", 0, 30).ticks
    [0.0, 10.0, 20.0, 30.0]
    """

    title: str
    low: float = 0.0
    high: float = 1.0

    @property
    def ticks(self) -> list[float]:
        """About four round numbers."""
        span = self.high - self.low
        power = 10.0 ** np.floor(np.log10(span / 3))
        step = next(power * times for times in (1, 2, 5, 10) if span / (power * times) <= 5)
        first, last = np.ceil(self.low / step - 1e-9), np.floor(self.high / step + 1e-9)
        return [float(step * number + 0.0) for number in np.arange(first, last + 1)]


@dataclass(frozen=True)
class Chart:
    """A chart with its heading above it.

    >>> Chart("ce", Markup("<svg></svg>"), legend={"clean": 0}).legend
    {'clean': 0}
    """

    title: str
    svg: Markup
    legend: dict[str, int]
    """The numbers of the colours by their meaning."""


def line_chart(
    title: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    alt: str,
    *,
    height: int = 220,
    diagonal: bool = False,
    between: tuple[Line, Line] | None = None,
) -> Chart:
    """Lines over a common axis.

    Args:
        alt: what the chart shows, for readers who do not see it.
        diagonal: a dashed line from the lower left to the upper right.
        between: two lines with the same `x`; the area between them is filled.

    >>> "<polyline" in line_chart("ce", [Line("clean", [0, 1], [0, 1])], Axis("eps"), Axis("F1"), "ce: F1 over eps").svg
    True
    """
    frame = _Frame(x, y, height)
    parts = [*frame.axes()]
    if diagonal:
        parts.append(frame.path([x.low, x.high], [y.low, y.high], "reference"))
    if between is not None:
        low, high = between
        across = np.concatenate([np.asarray(low.x, float), np.asarray(high.x, float)[::-1]])
        up = np.concatenate([np.asarray(low.y, float), np.asarray(high.y, float)[::-1]])
        parts.append(f'<polygon class="area" points="{frame.points(across, up)}"/>')
    for one in lines:
        parts += frame.line(one)
    return Chart(title, _svg(parts, height, alt), {one.label: one.series for one in lines if one.label})


@dataclass(frozen=True)
class Whisker:
    """An interval in a row of a chart; without a finite value its `missing` is written instead.

    >>> Whisker("ce", 0.8, 0.7, 0.9).series
    0
    """

    row: str
    value: float
    low: float
    high: float
    series: int = 0
    missing: str = "-"


def interval_chart(
    title: str,
    whiskers: Sequence[Whisker],
    x: Axis,
    alt: str,
    *,
    references: Sequence[tuple[float, int]] = (),
    legend: dict[str, int] | None = None,
) -> Chart:
    """Values with their intervals, in rows.

    Args:
        alt: what the chart shows, for readers who do not see it.
        references: dotted vertical lines: their place and the number of their colour.

    >>> chart = interval_chart("F1", [Whisker("ce", 0.8, 0.7, 0.9)], Axis("F1"), "F1 of ce: 0.8")
    >>> chart.svg.count("<circle")
    1
    """
    rows = {name: number for number, name in enumerate(dict.fromkeys(one.row for one in whiskers))}
    height = TOP + ROW * len(rows) + BELOW
    frame = _Frame(x, Axis("", 0, max(1, len(rows))), height, left=RIGHT)
    parts = [*frame.axes()]
    for place, series in references:
        parts.append(frame.path([place] * 2, [0, len(rows)], f"reference s{series % SERIES}"))
    seen: dict[str, int] = {}
    for name, number in rows.items():
        parts.append(f'<text x="{RIGHT + 4}" y="{TOP + ROW * number + 12}">{escape(name)}</text>')
    for one in whiskers:
        seen[one.row] = seen.get(one.row, 0) + 1
        y = TOP + ROW * rows[one.row] + 11 + 7 * seen[one.row]
        parts += frame.whisker(one, y)
    return Chart(title, _svg(parts, height, alt), legend or {})


def _svg(parts: Iterable[str], height: int, alt: str) -> Markup:
    body = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(alt)}">{body}</svg>')


@dataclass(frozen=True)
class _Frame:
    """From values to units of the chart."""

    x: Axis
    y: Axis
    height: int
    left: int = LEFT

    def across(self, x: ArrayLike) -> np.ndarray:
        share = (np.asarray(x, float) - self.x.low) / (self.x.high - self.x.low)
        return np.asarray(self.left + share * (WIDTH - RIGHT - self.left))

    def down(self, y: ArrayLike) -> np.ndarray:
        share = (np.asarray(y, float) - self.y.low) / (self.y.high - self.y.low)
        return np.asarray(self.height - BELOW - share * (self.height - BELOW - TOP))

    def points(self, x: ArrayLike, y: ArrayLike) -> str:
        places = (f"{a:.1f},{b:.1f}" for a, b in zip(self.across(x), self.down(y), strict=True))
        return " ".join(place for place, _ in groupby(places))

    def path(self, x: ArrayLike, y: ArrayLike, kind: str) -> str:
        return f'<polyline class="{kind}" points="{self.points(x, y)}"/>'

    def line(self, one: Line) -> list[str]:
        x, y = np.asarray(one.x, float), np.asarray(one.y, float)
        gaps = np.flatnonzero(~np.isfinite(y))
        kind = f"line s{one.series % SERIES} d{one.series // SERIES}"
        pieces = [piece[np.isfinite(y[piece])] for piece in np.split(np.arange(len(y)), gaps)]
        parts = [self.path(x[piece], y[piece], kind) for piece in pieces if len(piece) > 1]
        dots = [number for number in np.asarray(one.marked, int) if np.isfinite(y[number])]
        across, down = self.across(x), self.down(y)
        return parts + [
            f'<circle class="s{one.series % SERIES}" cx="{across[n]:.1f}" cy="{down[n]:.1f}" r="3.5"/>' for n in dots
        ]

    def whisker(self, one: Whisker, y: int) -> list[str]:
        kind = f"s{one.series % SERIES}"
        if not np.isfinite(one.value):
            return [f'<text class="{kind} missing" x="{RIGHT}" y="{y + 4}">{escape(one.missing)}</text>']
        low, value, high = self.across([one.low, one.value, one.high])
        parts = [f'<circle class="{kind}" cx="{value:.1f}" cy="{y}" r="3.5"/>']
        if np.isfinite(low + high):
            parts.append(f'<polyline class="line {kind}" points="{low:.1f},{y} {high:.1f},{y}"/>')
        return parts

    def axes(self) -> Iterable[str]:
        bottom, right = self.height - BELOW, WIDTH - RIGHT
        yield f'<polyline class="axis" points="{self.left},{TOP} {self.left},{bottom} {right},{bottom}"/>'
        for tick, at in zip(self.x.ticks, self.across(self.x.ticks), strict=True):
            yield f'<text class="tick" x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>'
        middle = (self.left + right) / 2
        yield f'<text x="{middle:.1f}" y="{self.height - 5}" text-anchor="middle">{escape(self.x.title)}</text>'
        if self.y.title:
            for tick, at in zip(self.y.ticks, self.down(self.y.ticks), strict=True):
                yield f'<text class="tick" x="{self.left - 5}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>'
                yield f'<polyline class="grid" points="{self.left},{at:.1f} {right},{at:.1f}"/>'
            centre = (TOP + bottom) / 2
            yield (
                f'<text x="11" y="{centre:.1f}" text-anchor="middle" transform="rotate(-90 11 {centre:.1f})">'
                f"{escape(self.y.title)}</text>"
            )
        else:
            for at in self.across(self.x.ticks):
                yield f'<polyline class="grid" points="{at:.1f},{TOP} {at:.1f},{bottom}"/>'
