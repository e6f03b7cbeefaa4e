"""Which differences between defenses are more than noise."""

from collections.abc import Mapping
from itertools import combinations

import pandas as pd

from mirst.evaluation import Metric, holm, interval, paired_difference, worst_rows
from mirst.report.exports import markdown
from mirst.report.tables import CLEAN, METRIC_NAMES, PROTOCOL, of_defense
from mirst.study import Results

LEVEL = 0.05
NOISE = "inside the noise"


def under_attack(results: Results, beside: Results | None = None) -> dict[str, pd.DataFrame]:
    """Rows of all trials, one per image: clean, the worst of the study's own attacks, and each suite that was run.

    A suite that was run at several eps is taken at that of the study's own attacks where it has it, else at the
    largest. With another study beside, only suites and eps that both were run at are taken.
    """
    own = results.outcomes[results.outcomes["attack"] != CLEAN]
    rows = {
        CLEAN: results.outcomes[results.outcomes["attack"] == CLEAN],
        PROTOCOL: worst_rows(own, PROTOCOL, results.positive),
    }
    for suite, attacked in results.suites.items():
        radii = suite_eps(results, suite) & suite_eps(results if beside is None else beside, suite)
        if radii:
            eps = own["eps"].max() if own["eps"].max() in radii else max(radii)
            rows[suite] = attacked[attacked["eps"] == eps]
    return rows


def suite_eps(results: Results, suite: str) -> set[float]:
    """The radii at which the suite was run; empty where it was not."""
    return set(results.suites[suite]["eps"]) if suite in results.suites else set()


def intervals(results: Results, metric: Metric = "f1", beside: Results | None = None) -> pd.DataFrame:
    """The metric of every defense, pooled over folds and seeds, with its 95 % interval over groups.

    Args:
        beside: as for `under_attack`.

    Returns:
        `Interval`s: a row per attack of `under_attack`, a column per defense of which no trial diverged or was killed.
    """
    rows = under_attack(results, beside)
    entries = [entry for entry in results.spec.defenses if results.is_whole(entry)]
    return pd.DataFrame(
        {
            entry.title: [
                interval(of_defense(under, entry), results.classes, results.positive, metric) for under in rows.values()
            ]
            for entry in entries
        },
        index=list(rows),
    )


def differences(results: Results) -> pd.DataFrame:
    """F1 of every pair of defenses on the same images, clean and under every suite of attacks.

    Returns:
        A row per pair and attack: `attack, first, second, difference` (second minus first, with its
        95 % interval over groups), its `value, low, high`, `seeds` (of each seed
        alone), `p` (corrected for all rows by Holm's method) and `reading`, in words. Defenses of
        which a trial diverged or was killed are left out.
    """
    all_rows = under_attack(results)
    titles = [entry.title for entry in results.spec.defenses if results.is_whole(entry)]
    entries = {entry.title: entry for entry in results.spec.defenses}
    rows, found = [], []
    for name, under in all_rows.items():
        for first, second in combinations(titles, 2):
            one, other = (of_defense(under, entries[title]) for title in (first, second))
            whole = paired_difference(one, other, results.classes, results.positive)
            seeds = [
                paired_difference(
                    one[one["seed"] == seed], other[other["seed"] == seed], results.classes, results.positive
                ).value
                for seed in results.spec.seeds
            ]
            found.append(whole)
            rows.append((name, first, second, str(whole), ", ".join(f"{value:+.3f}" for value in seeds)))
    table = pd.DataFrame(rows, columns=["attack", "first", "second", "difference", "seeds"])
    for part in ("value", "low", "high"):
        table[part] = [getattr(one, part) for one in found]
    table["p"] = holm([one.p for one in found])
    table["reading"] = [
        NOISE if p >= LEVEL else f"{second if one.value > 0 else first} is better"
        for one, p, first, second in zip(found, table["p"], table["first"], table["second"], strict=True)
    ]
    return table


def differences_table(table: pd.DataFrame, whole: pd.DataFrame) -> str:
    """The rows of `intervals` and of `differences` as Markdown."""
    return "\n".join(
        [
            "F1 pooled over the folds and seeds, with its 95 % interval over groups.",
            "",
            markdown(shown_intervals({"f1": whole}).drop(columns="metric")),
            "F1 of the second defense minus that of the first on the same images, pooled over the folds, with its 95 % "
            "interval over groups; each seed alone; p after Holm's correction for all rows.",
            "",
            markdown(shown_differences(table)),
        ]
    )


def shown_differences(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `differences` as people read them."""
    shown = table.assign(attack=table["attack"].map(named), p=table["p"].map("{:.3f}".format))
    return shown[["attack", "first", "second", "difference", "seeds", "p", "reading"]]


def shown_intervals(whole: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Intervals by metric as people read them: a row per metric and attack, a column per defense."""
    parts = [
        table.map(str).assign(metric=METRIC_NAMES[metric], attack=[named(attack) for attack in table.index])
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


def named(attack: object) -> str:
    """The attack as readers know it."""
    return str(attack).replace(CLEAN, "no attack")
