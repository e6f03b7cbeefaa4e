"""Metrics over the eps of the attack."""

from dataclasses import dataclass

import pandas as pd

from mirst.evaluation import LARGEST, curve
from mirst.metrics import METRICS, row_metrics
from mirst.report.charts import Axis, Chart, Line, line_chart
from mirst.report.context import of_defense
from mirst.study import Results

DRAWN = [metric for metric in METRICS.values() if metric.drawn]
TABLED = (0, 0.5, 1, 2, 3, 4, 5, 6, 8, 12, 16)
"""Gray levels."""


@dataclass(frozen=True)
class EpsCurve:
    """The figure and its table.

    >>> EpsCurve([], pd.DataFrame({"ce": [0.8]}), suite=None).titles
    'F1 score and Accuracy'
    """

    charts: list[Chart]
    """One per drawn metric."""
    table: pd.DataFrame
    """F1: a row per eps, as text, a column per defense."""
    suite: str | None
    """The strongest that was run; the figure marks its results."""
    titles: str = " and ".join(metric.title for metric in DRAWN)


def eps_curve(results: Results) -> EpsCurve | None:
    """The drawn metrics over eps, pooled over the folds; `None` if the smallest eps were not searched."""
    if results.distances is None:
        return None
    curves = _curves(results, results.distances)
    table = _tabled(curves)
    halves = {title: _half(one) for title, one in curves.items()}
    alt = f"{EpsCurve.titles} of every defense over eps. F1 falls below half of its clean value " + ", ".join(
        f"for {title} {where}" for title, where in halves.items()
    )
    charts = _charts(results, curves, f"{alt}; the table contains the numbers.")
    return EpsCurve(charts, table, next(reversed(results.suites), None))


def f1_over_eps(results: Results) -> pd.DataFrame:
    """F1 at every eps of `TABLED`, as text, a row each; a column per defense.

    The smallest eps of the images must have been searched.
    """
    assert results.distances is not None
    return _tabled(_curves(results, results.distances))


def _curves(results: Results, distances: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By defense, at every quarter of a gray level."""
    eps = [step / 4 / 255 for step in range(round(LARGEST * 255) * 4 + 1)]
    rows = {entry.title: of_defense(distances, entry) for entry in results.spec.defenses}
    return {title: curve(own, eps, results.classes, results.positive) for title, own in rows.items() if len(own)}


def _tabled(curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows = [int(4 * level) for level in TABLED]
    names = [f"{level:g}/255" if level else "0" for level in TABLED]
    return pd.DataFrame({title: one["f1"].to_numpy()[rows] for title, one in curves.items()}, index=names)


def _half(curve: pd.DataFrame) -> str:
    below = curve[curve["f1"] < curve["f1"].iloc[0] / 2]
    return f"at {below['eps'].iloc[0] * 255:g}/255" if len(below) else f"at no eps up to {LARGEST * 255:g}/255"


def _charts(results: Results, curves: dict[str, pd.DataFrame], alt: str) -> list[Chart]:
    numbers = {title: number for number, title in enumerate(curves)}
    lines = {metric: [_line(title, one, metric.name, numbers) for title, one in curves.items()] for metric in DRAWN}
    for entry in results.spec.defenses:
        own = of_defense(next(reversed(results.suites.values()), results.outcomes.iloc[:0]), entry)
        for eps in own["eps"].unique():
            at = own[own["eps"] == eps]
            reached = row_metrics(at, results.classes, results.positive)
            for metric, drawn in lines.items():
                drawn.append(Line("", [eps * 255], [reached[metric.name]], numbers.get(entry.title, 0), [0]))
    x = Axis("eps, in gray levels of 255", 0, LARGEST * 255)
    return [line_chart(metric.title, drawn, x, Axis(metric.title), alt) for metric, drawn in lines.items()]


def _line(title: str, curve: pd.DataFrame, metric: str, numbers: dict[str, int]) -> Line:
    return Line(title, curve["eps"] * 255, curve[metric], numbers[title])
