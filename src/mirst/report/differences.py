"""Intervals of metrics, and which differences between defenses are significant."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from mirst.evaluation import Interval, holm
from mirst.metrics import metric_named
from mirst.report.baselines import baseline_titles
from mirst.report.context import ReportContext, attack_name, of_defense
from mirst.report.exports import markdown
from mirst.study import Results
from mirst.study.summary import pooled_difference, pooled_interval

LEVEL = 0.05
NOT_SIGNIFICANT = "not significant"


def intervals(context: ReportContext, metric: str = "f1") -> pd.DataFrame:
    """The metric of every defense, pooled over folds and seeds, with its 95 % interval over groups.

    Returns:
        `Interval`s: a row per attack of `ReportContext.under_attack`, a column per defense of which no trial diverged
        or was killed.
    """
    results, rows = context.results, context.under_attack
    entries = [entry for entry in results.spec.defenses if results.is_whole(entry)]
    return pd.DataFrame(
        {
            entry.title: [
                pooled_interval(of_defense(under, entry), results.classes, results.positive, metric)
                for under in rows.values()
            ]
            for entry in entries
        },
        index=list(rows),
    )


def baseline_intervals(context: ReportContext, metric: str = "f1") -> pd.DataFrame:
    """As `intervals`, with a column per baseline; without columns unless the study is one of lesions."""
    results = context.results

    def one(rows: pd.DataFrame) -> Interval:
        if rows.empty:  # a suite that was interrupted before the baselines had its eps
            return Interval(np.nan, np.nan, np.nan)
        return pooled_interval(rows, results.classes, results.positive, metric)

    conditions = context.baselines_under_attack
    return pd.DataFrame(
        {
            name: [one(rows[rows["defense"] == name]) for rows in conditions.values()]
            for name in baseline_titles(results)
        },
        index=list(conditions),
    )


def differences(context: ReportContext) -> pd.DataFrame:
    """F1 of every pair of defenses on the same images, clean and under every suite of attacks.

    Returns:
        A row per pair and attack: `attack, first, second, difference` (second minus first, with its
        95 % interval over groups), its `value, low, high`, `seeds` (for each seed
        alone), `p` (corrected for all rows by Holm's method) and `reading`, in words. Defenses of
        which a trial diverged or was killed are left out.
    """
    results = context.results
    entries = [entry for entry in results.spec.defenses if results.is_whole(entry)]
    rows, found = [], []
    for name, under in context.under_attack.items():
        own = {entry.title: of_defense(under, entry) for entry in entries}
        of_seed = _of_seeds(results, own)
        for first, second in combinations(own, 2):
            one, other = own[first], own[second]
            whole = pooled_difference(one, other, results.classes, results.positive)
            seeds = [of_seed[second, seed] - of_seed[first, seed] for seed in results.spec.seeds]
            found.append(whole)
            rows.append((name, first, second, str(whole), ", ".join(f"{value:+.3f}" for value in seeds)))
    table = pd.DataFrame(rows, columns=["attack", "first", "second", "difference", "seeds"])
    for part in ("value", "low", "high"):
        table[part] = [getattr(one, part) for one in found]
    table["p"] = holm([one.p for one in found])
    table["reading"] = [
        NOT_SIGNIFICANT if p >= LEVEL else f"{second if one.value > 0 else first} is better"
        for one, p, first, second in zip(found, table["p"], table["first"], table["second"], strict=True)
    ]
    return table


def _of_seeds(results: Results, own: Mapping[str, pd.DataFrame]) -> dict[tuple[str, int], float]:
    """F1 by defense and seed."""
    return {
        (title, seed): pooled_interval(rows[rows["seed"] == seed], results.classes, results.positive).value
        for title, rows in own.items()
        for seed in results.spec.seeds
    }


def differences_table(table: pd.DataFrame, whole: pd.DataFrame) -> str:
    """The rows of `intervals` and of `differences` as Markdown."""
    return "\n".join(
        [
            "This table shows F1, pooled over the folds and seeds, with its 95 % interval over groups.",
            "",
            markdown(shown_intervals({"f1": whole}).drop(columns="metric")),
            "This table compares every two defenses on the same images. The difference is F1 of the second minus F1 of "
            "the first, pooled over the folds, with its 95 % interval over groups. It is also shown for each seed "
            "alone. The p value has Holm's correction for all rows.",
            "",
            markdown(shown_differences(table)),
        ]
    )


def shown_differences(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `differences` for readers."""
    shown = table.assign(attack=table["attack"].map(attack_name), p=table["p"].map("{:.3f}".format))
    return shown[["attack", "first", "second", "difference", "seeds", "p", "reading"]]


def shown_intervals(whole: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Intervals by metric for readers: a row per metric and attack, a column per defense."""
    parts = [
        table.map(str).assign(metric=metric_named(metric).title, attack=[attack_name(attack) for attack in table.index])
        for metric, table in whole.items()
    ]
    shown = pd.concat(parts)
    return shown[["metric", "attack", *parts[0].columns.drop(["metric", "attack"])]]


def interval_numbers(whole: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Intervals by metric, unrounded: `metric, attack, defense, value, low, high`."""
    return pd.DataFrame(
        [
            (metric, attack, defense, one.value, one.low, one.high)
            for metric, table in whole.items()
            for defense in table
            for attack, one in table[defense].items()
        ],
        columns=["metric", "attack", "defense", "value", "low", "high"],
    )
