"""One line per defense: what it reaches clean and under attack, and whether it differs from the first."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from mirst.report.differences import NOISE, named

SHORT = {"f1": "F1", "sensitivity": "Sensitivity"}


class Cell(NamedTuple):
    value: str
    detail: str
    """Its interval, and of a difference the reading."""
    key: float
    """To sort by."""
    beyond_noise: bool = False


def comparison(whole: Mapping[str, pd.DataFrame], judged: pd.DataFrame) -> dict[str, dict[str, Cell]]:
    """Cells by defense and heading.

    Args:
        whole: intervals by metric, as from `mirst.report.differences.intervals`.
        judged: as from `mirst.report.differences.differences`.
    """
    f1 = whole["f1"]
    first = str(f1.columns[0])
    rows = judged[judged["first"] == first].to_dict("records")
    against = {(row["second"], row["attack"]): row for row in rows}
    lines: dict[str, dict[str, Cell]] = {}
    for defense in map(str, f1.columns):
        line = lines[defense] = {}
        for metric, table in whole.items():
            for attack, one in table[defense].items():
                line[f"{SHORT[metric]}, {named(attack)}"] = _cell(str(one), one.value)
        for attack in f1.index:
            line[f"F1 minus {first}'s, {named(attack)}"] = _difference(against.get((defense, attack)))
    return lines


def _difference(row: dict[Hashable, Any] | None) -> Cell:
    if row is None:
        return Cell("-", "", 0.0)
    beyond = row["reading"] != NOISE
    cell = _cell(row["difference"], row["value"])
    return cell._replace(detail=f"{cell.detail} {'beyond' if beyond else 'inside'} the noise", beyond_noise=beyond)


def _cell(text: str, key: float) -> Cell:
    value, _, detail = text.partition(" ")
    return Cell(value, detail, key)
