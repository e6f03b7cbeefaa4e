"""One line per defense: its metrics clean and under attack, and its difference from the first defense."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from mirst.metrics import metric_named
from mirst.report.charts import Axis, Chart, Whisker, interval_chart
from mirst.report.context import attack_name
from mirst.report.differences import NOT_SIGNIFICANT


class ComparisonCell(NamedTuple):
    """A cell of the table.

    >>> ComparisonCell("0.800", "[0.710, 0.870]", key=0.8).significant
    False
    """

    value: str
    detail: str
    """Its interval, and for a difference whether it is significant."""
    key: float
    """What the table sorts by."""
    significant: bool = False
    is_difference: bool = False


def comparison(whole: Mapping[str, pd.DataFrame], judged: pd.DataFrame) -> dict[str, dict[str, ComparisonCell]]:
    """The cells by defense and heading.

    Args:
        whole: intervals by metric, as from `mirst.report.differences.intervals`.
        judged: as from `mirst.report.differences.differences`.
    """
    f1 = whole["f1"]
    first = str(f1.columns[0])
    rows = judged[judged["first"] == first].to_dict("records")
    against = {(row["second"], row["attack"]): row for row in rows}
    lines: dict[str, dict[str, ComparisonCell]] = {}
    for defense in map(str, f1.columns):
        line = lines[defense] = {}
        for metric, table in whole.items():
            for attack, one in table[defense].items():
                line[f"{metric_named(metric).title}, {attack_name(attack)}"] = _cell(str(one), one.value)
        for attack in f1.index:
            line[f"difference of F1 from {first}, {attack_name(attack)}"] = _difference(against.get((defense, attack)))
    return lines


def f1_charts(f1: pd.DataFrame, constant: float) -> list[Chart]:
    """F1 of every column of the table with its interval, a chart per row; the dotted line is one fixed answer."""
    title = metric_named("f1").title
    charts = []
    for number, (attack, row) in enumerate(f1.iterrows()):
        name = attack_name(attack)
        series = min(number, 2)
        whiskers = [Whisker(str(defense), one.value, one.low, one.high, series) for defense, one in row.items()]
        values = "; ".join(f"{defense} {one}" for defense, one in row.items())
        alt = f"{title}, {name}: {values}."
        charts.append(interval_chart(name, whiskers, Axis(title), alt, references=[(constant, 3)]))
    return charts


def _difference(row: dict[Hashable, Any] | None) -> ComparisonCell:
    if row is None:
        return ComparisonCell("-", "", 0.0, is_difference=True)
    significant = row["reading"] != NOT_SIGNIFICANT
    label = "significant" if significant else NOT_SIGNIFICANT
    cell = _cell(row["difference"], row["value"])
    return cell._replace(detail=f"{cell.detail} {label}", significant=significant, is_difference=True)


def _cell(text: str, key: float) -> ComparisonCell:
    value, _, detail = text.partition(" ")
    return ComparisonCell(value, detail, key)
