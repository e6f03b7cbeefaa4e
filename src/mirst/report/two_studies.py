"""Two studies side by side, on one page."""

from pathlib import Path

import pandas as pd

from mirst.errors import MirstError
from mirst.evaluation import Difference, Metric, holm, paired_difference
from mirst.report.differences import LEVEL, NOISE, intervals, named, under_attack
from mirst.report.html import render
from mirst.report.tables import METRIC_NAMES, of_defense
from mirst.study import Results, read_results

METRICS: tuple[Metric, ...] = ("f1", "sensitivity")
OTHER_IMAGES = "other images or seeds"


def write_comparison(first: str | Path, second: str | Path, out: str | Path | None = None) -> Path:
    """Write a page with the defenses that two finished studies share.

    Args:
        out: the HTML file; `comparison-with-SECOND.html` in the first study's folder by default.

    Raises:
        MirstError: a folder holds no finished study, the same folder twice, or no defense in common.
    """
    one, other = read_results(first), read_results(second)
    if one.folder.resolve() == other.folder.resolve():
        raise MirstError(f"{first} and {second} are the same study; name two")
    path = one.folder / f"comparison-with-{other.folder.name}.html" if out is None else Path(out)
    render(
        path,
        "two_studies.html.j2",
        name=f"{one.folder.name} and {other.folder.name}",
        studies=[one, other],
        unlike=unlike(one, other),
        rows=side_by_side(one, other),
        unjudged=(NOISE, OTHER_IMAGES),
    )
    return path


def side_by_side(one: Results, other: Results) -> pd.DataFrame:
    """A row per shared defense, attack and metric, with intervals of both and the difference, `other` minus `one`.

    Where both attacked the same images under the same seeds, the difference is a paired one with its interval,
    else it is `-`: between other images it would say nothing about the defense.

    Raises:
        MirstError: no defense in common.
    """
    theirs = {entry.title: entry for entry in other.spec.defenses}
    shared = [(entry, theirs[entry.title]) for entry in one.spec.defenses if entry.title in theirs]
    if not shared:
        raise MirstError(f"{one.folder} and {other.folder} have no defense in common; there is nothing to compare")
    rows_of = under_attack(one), under_attack(other)
    rows: list[tuple[str, ...]] = []
    found: list[Difference | None] = []
    for metric in METRICS:
        left, right = intervals(one, metric), intervals(other, metric)
        for entry, counterpart in shared:
            if entry.title not in left or entry.title not in right:
                continue  # it diverged in one of them
            for attack in left.index.intersection(right.index):
                values = (str(table.loc[attack, entry.title]) for table in (left, right))
                rows.append((entry.title, named(attack), METRIC_NAMES[metric], *values))
                attacked = of_defense(rows_of[0][attack], entry), of_defense(rows_of[1][attack], counterpart)
                found.append(_difference(*attacked, one, metric))
    table = pd.DataFrame(rows, columns=["defense", "attack", "metric", "first", "second"])
    corrected = iter(holm([one.p for one in found if one is not None]))
    table["difference"] = ["-" if one is None else str(one) for one in found]
    table["reading"] = [OTHER_IMAGES if one is None else _reading(one, next(corrected)) for one in found]
    return table


def unlike(one: Results, other: Results) -> list[str]:
    """What differs between the two studies, a sentence each."""
    mine, theirs = one.spec.resolved(), other.spec.resolved()
    sentences = [
        f"{section}: {mine[section]} in the first, {theirs[section]} in the second."
        for section in mine
        if section not in ("out", "reuse", "defenses") and mine[section] != theirs.get(section)
    ]
    shared = [(e, c) for e in one.spec.defenses for c in other.spec.defenses if e.title == c.title]
    sentences += [
        f"{e.title}: {e.defense} in the first, {c.defense} in the second." for e, c in shared if e.defense != c.defense
    ]
    if one.run["data"]["fingerprint"] != other.run["data"]["fingerprint"]:
        sentences.append("The images, labels or groups are not the same.")
    return sentences


def _difference(first: pd.DataFrame, second: pd.DataFrame, results: Results, metric: Metric) -> Difference | None:
    try:
        return paired_difference(first, second, results.classes, results.positive, metric)
    except MirstError:
        return None


def _reading(difference: Difference, p: float) -> str:
    if p >= LEVEL:
        return NOISE
    return f"the {'second' if difference.value > 0 else 'first'} is better"
