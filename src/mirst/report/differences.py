"""Which differences between defenses are more than noise."""

from itertools import combinations

import pandas as pd

from mirst.evaluation import holm, paired_difference, worst_rows
from mirst.report.tables import CLEAN, PROTOCOL, of_defense
from mirst.study import Results

LEVEL = 0.05


def differences(results: Results) -> pd.DataFrame:
    """F1 of every pair of defenses on the same images, clean and under the strongest attacks that were run.

    Returns:
        A row per pair and attack: `attack, first, second, difference` (second minus first, with its
        95 % interval by a paired bootstrap over groups), `seeds` (of each seed alone), `p` (corrected
        for all rows by Holm's method) and `reading`, in words. Defenses that diverged are left out.
    """
    clean = results.outcomes[results.outcomes["attack"] == CLEAN]
    attack, attacked = _strongest(results)
    titles = [entry.title for entry in results.spec.defenses if len(of_defense(clean, entry))]
    entries = {entry.title: entry for entry in results.spec.defenses}
    rows, found = [], []
    for name, under in ((CLEAN, clean), (attack, attacked)):
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


def differences_table(table: pd.DataFrame) -> str:
    """The rows of `differences` as Markdown."""
    lines = [
        "F1 of the second defense minus that of the first on the same images, pooled over the folds, with its 95 % "
        "interval by a paired bootstrap over groups; each seed alone; p after Holm's correction for all rows.",
        "",
        "| attack | first | second | difference | seeds | p | reading |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['attack'].replace(CLEAN, 'no attack')} | {row['first']} | {row['second']} | {row['difference']} "
        f"| {row['seeds']} | {row['p']:.3f} | {row['reading']} |"
        for row in table.to_dict("records")
    ]
    return "\n".join([*lines, ""])


def _strongest(results: Results) -> tuple[str, pd.DataFrame]:
    """The last suite that was run, at the eps of the study's own attacks where it has that; else those attacks."""
    own = results.outcomes[results.outcomes["attack"] != CLEAN]
    for suite, attacked in reversed(results.suites.items()):
        eps = own["eps"].max() if own["eps"].max() in set(attacked["eps"]) else attacked["eps"].max()
        return suite, attacked[attacked["eps"] == eps]
    return PROTOCOL, worst_rows(own, PROTOCOL, results.positive)
