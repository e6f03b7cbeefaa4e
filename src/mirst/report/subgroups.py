"""Metrics of the subgroups of the images: by scanner, site, age band or whatever else the data set tells of them."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mirst.data import MOST_VALUES
from mirst.data.record import natural
from mirst.evaluation import Interval
from mirst.metrics import class_metrics, metric_named
from mirst.report.charts import Axis, Chart, Whisker, interval_chart
from mirst.report.context import ReportContext, of_defense
from mirst.report.differences import intervals
from mirst.report.exports import Table
from mirst.report.headline import highest_under_attack
from mirst.study import Results
from mirst.study.summary import pooled_interval

FEWEST = 10
"""Groups of a class, such as patients: with fewer, an interval covers up to two thirds of the range of a metric."""
TOO_FEW = "too few to say"
ALL = "all images"
LETTERS = 34
"""Of the name of a subgroup that fit into a chart."""
PLACE = ["attribute", "subgroup", "images", "groups", "defense", "attack"]


@dataclass(frozen=True)
class Subgroups:
    """The metrics of all subgroups.

    >>> Subgroups("ce", charts={}, shown=pd.DataFrame(), table=Table(pd.DataFrame(), pd.DataFrame())).best
    'ce'
    """

    best: str
    """The defense that the page shows: that of the highest F1 under attack."""
    charts: dict[str, list[Chart]]
    """Of the best defense, by attribute: a forest plot for each metric."""
    shown: pd.DataFrame
    """The rows of the best defense, for readers."""
    table: Table
    """Those of all defenses."""


def subgroup_names(results: Results) -> list[str]:
    """The attributes with 2 to `MOST_VALUES` values among the tested images; the data set is one, if there are several.

    Of folders of older versions, which have no other attributes, it is the only one.
    """
    return list(_values(results, results.outcomes))


def subgroups(context: ReportContext) -> Subgroups:
    """The metrics of each subgroup under no attack and under the strongest attacks, pooled over folds and seeds.

    A metric has its 95 % interval over groups, or none where a class that it needs has fewer than `FEWEST` groups: the
    positive class for sensitivity, the other for specificity, and every class for all other metrics and with more than
    two classes.
    """
    best = highest_under_attack(intervals(context))
    numbers = pd.DataFrame(_rows(context), columns=[*PLACE, "metric", "value", "low", "high"])
    measured = class_metrics(context.results.positive)
    shown = _shown(numbers, measured)
    own = numbers[numbers["defense"] == best]
    charts = {
        str(name): [_chart(str(name), metric, rows, own[own["attribute"] == ALL]) for metric in measured]
        for name, rows in own.groupby("attribute", sort=False)
        if name != ALL
    }
    page = shown[shown["defense"] == best].drop(columns="defense")
    return Subgroups(best, charts, page, Table(shown, numbers))


def _values(results: Results, rows: pd.DataFrame) -> dict[str, "pd.Series[str]"]:
    """By attribute, its value for each of the rows, NaN where it has none."""
    columns = {"source": rows["source"]}
    if results.attributes is not None:
        images = pd.MultiIndex.from_frame(rows[["source", "image"]])
        found = results.attributes.reindex(images).set_axis(rows.index)
        columns |= {str(name): found[name] for name in found}
    return {name: column for name, column in columns.items() if 2 <= column.nunique() <= MOST_VALUES}


def _rows(context: ReportContext) -> Iterator[tuple[object, ...]]:
    results = context.results
    for attack, every in context.clean_and_strongest.items():
        parts = [(ALL, ALL, every)]
        for name, values in _values(results, every).items():
            parts += [(name, value, every[values == value]) for value in sorted(values.dropna().unique(), key=natural)]
        for name, value, rows in parts:
            images, groups = len(rows.drop_duplicates(["source", "image"])), rows["group"].nunique()
            for entry in results.spec.defenses:
                if results.is_whole(entry):
                    own = of_defense(rows, entry)
                    for metric in class_metrics(results.positive):
                        one = _interval(own, metric, results)
                        place = (name, value, images, groups, entry.title, attack, metric)
                        yield *place, one.value, one.low, one.high


def _interval(rows: pd.DataFrame, metric: str, results: Results) -> Interval:
    """NaN where the rows are too few to say."""
    counts = rows.groupby("label")["group"].nunique()
    if any(counts.get(name, 0) < FEWEST for name in _needed(metric, results)):
        return Interval(np.nan, np.nan, np.nan)
    return pooled_interval(rows, results.classes, results.positive, metric)


def _needed(metric: str, results: Results) -> tuple[str, ...]:
    """The classes without enough groups of which the metric says little."""
    if len(results.classes) == 2 and metric == "sensitivity":
        return (results.scored,)
    if len(results.classes) == 2 and metric == "specificity":
        return tuple(name for name in results.classes if name != results.scored)
    return results.classes


def _shown(numbers: pd.DataFrame, measured: list[str]) -> pd.DataFrame:
    """A row per subgroup, defense and attack, a column per metric."""
    cells = [
        TOO_FEW if np.isnan(value) else str(Interval(value, low, high))
        for value, low, high in zip(numbers["value"], numbers["low"], numbers["high"], strict=True)
    ]
    wide = numbers.assign(cell=cells).pivot_table(
        index=PLACE, columns="metric", values="cell", aggfunc="first", sort=False
    )
    return wide[measured].rename(columns={name: metric_named(name).title for name in measured}).reset_index()


def _chart(name: str, metric: str, rows: pd.DataFrame, every: pd.DataFrame) -> Chart:
    """Of the rows of the attribute `name`, beside those of all images."""
    title, rows, every = metric_named(metric).title, rows[rows["metric"] == metric], every[every["metric"] == metric]
    readings = "; ".join(
        f"{value}, {attack}: {TOO_FEW if np.isnan(mean) else f'{mean:.3f}'}"
        for value, attack, mean in zip(rows["subgroup"], rows["attack"], rows["value"], strict=True)
    )
    attacks = {str(attack): number for number, attack in enumerate(rows["attack"].unique())}
    whiskers = [
        Whisker(_named(row), row["value"], row["low"], row["high"], attacks[row["attack"]], TOO_FEW)
        for row in rows.to_dict("records")
    ]
    references = [
        (value, attacks[attack])
        for attack, value in every[["attack", "value"]].itertuples(index=False)
        if np.isfinite(value)
    ]
    alt = f"{title} by {name}. {readings}."
    return interval_chart(f"{name}: {title}", whiskers, Axis(title), alt, references=references, legend=attacks)


def _named(row: Mapping[Hashable, Any]) -> str:
    name = row["subgroup"]
    return f"{name if len(name) <= LETTERS else f'{name[:LETTERS]}…'} ({row['groups']} groups)"
