"""Which differences between defenses are more than noise."""

from itertools import combinations

import pandas as pd

from mirst.evaluation import holm, interval, paired_difference, worst_rows
from mirst.report.tables import CLEAN, PROTOCOL, of_defense
from mirst.study import Results

LEVEL = 0.05


def under_attack(results: Results) -> dict[str, pd.DataFrame]:
    """Rows of all trials, one per image: clean, the worst of the study's own attacks, and each suite that was run.

    A suite that was run at several eps is taken at that of the study's own attacks where it has it.
    """
    own = results.outcomes[results.outcomes["attack"] != CLEAN]
    rows = {
        CLEAN: results.outcomes[results.outcomes["attack"] == CLEAN],
        PROTOCOL: worst_rows(own, PROTOCOL, results.positive),
    }
    for suite, attacked in results.suites.items():
        eps = own["eps"].max() if own["eps"].max() in set(attacked["eps"]) else attacked["eps"].max()
        rows[suite] = attacked[attacked["eps"] == eps]
    return rows


def intervals(results: Results) -> pd.DataFrame:
    """F1 of every defense, pooled over folds and seeds, with its 95 % interval by a bootstrap over groups.

    Returns:
        `Interval`s: a row per attack of `under_attack`, a column per defense that did not diverge.
    """
    rows = under_attack(results)
    entries = [entry for entry in results.spec.defenses if len(of_defense(rows[CLEAN], entry))]
    return pd.DataFrame(
        {
            entry.title: [interval(of_defense(under, entry), results.positive) for under in rows.values()]
            for entry in entries
        },
        index=list(rows),
    )


def differences(results: Results) -> pd.DataFrame:
    """F1 of every pair of defenses on the same images, clean and under every suite of attacks.

    Returns:
        A row per pair and attack: `attack, first, second, difference` (second minus first, with its
        95 % interval by a paired bootstrap over groups), `seeds` (of each seed alone), `p` (corrected
        for all rows by Holm's method) and `reading`, in words. Defenses that diverged are left out.
    """
    all_rows = under_attack(results)
    clean = all_rows[CLEAN]
    titles = [entry.title for entry in results.spec.defenses if len(of_defense(clean, entry))]
    entries = {entry.title: entry for entry in results.spec.defenses}
    rows, found = [], []
    for name, under in all_rows.items():
        for first, second in combinations(titles, 2):
            one, other = (of_defense(under, entries[title]) for title in (first, second))
            whole = paired_difference(one, other, results.positive)
            seeds = [
                paired_difference(
                    one[one["seed"] == seed], other[other["seed"] == seed], results.positive, draws=1
                ).value
                for seed in results.spec.seeds
            ]
            found.append(whole)
            rows.append((name, first, second, str(whole), ", ".join(f"{value:+.3f}" for value in seeds)))
    table = pd.DataFrame(rows, columns=["attack", "first", "second", "difference", "seeds"])
    table["p"] = holm([one.p for one in found])
    table["reading"] = [
        "inside the noise" if p >= LEVEL else f"{second if one.value > 0 else first} is better"
        for one, p, first, second in zip(found, table["p"], table["first"], table["second"], strict=True)
    ]
    return table


def differences_table(table: pd.DataFrame, whole: pd.DataFrame) -> str:
    """The rows of `intervals` and of `differences` as Markdown."""
    lines = [
        "F1 pooled over the folds and seeds, with its 95 % interval by a bootstrap over groups.",
        "",
        "| attack | " + " | ".join(whole.columns) + " |",
        "|---|" + "---|" * len(whole.columns),
        *(f"| {_named(attack)} | " + " | ".join(map(str, row)) + " |" for attack, row in whole.iterrows()),
        "",
        "F1 of the second defense minus that of the first on the same images, pooled over the folds, with its 95 % "
        "interval by a paired bootstrap over groups; each seed alone; p after Holm's correction for all rows.",
        "",
        "| attack | first | second | difference | seeds | p | reading |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {_named(row['attack'])} | {row['first']} | {row['second']} | {row['difference']} "
        f"| {row['seeds']} | {row['p']:.3f} | {row['reading']} |"
        for row in table.to_dict("records")
    ]
    return "\n".join([*lines, ""])


def _named(attack: object) -> str:
    return str(attack).replace(CLEAN, "no attack")
