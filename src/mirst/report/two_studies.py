"""Two studies side by side, on one page."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mirst.attacks import Attack
from mirst.errors import MirstError
from mirst.evaluation import Difference, holm
from mirst.metrics import metric_named, study_metrics
from mirst.report.baselines import for_every_seed
from mirst.report.context import PROTOCOL, ReportContext, attack_name, of_defense, pixels, suite_eps
from mirst.report.differences import LEVEL, NOT_SIGNIFICANT, intervals
from mirst.report.html import render
from mirst.study import Results, read_results
from mirst.study.layout import SUITES
from mirst.study.summary import pooled_difference

OTHER_IMAGES = "not computed: different images or seeds"
OTHER_ATTACKS = "not computed: different attacks"
OTHER_CLASS = "not computed: different positive class"


def write_comparison(
    first: str | Path, second: str | Path, out: str | Path | None = None, tell: Callable[[str], object] = lambda _: None
) -> Path:
    """Write a page with the defenses that two finished studies share.

    Args:
        out: the HTML file; `comparison-with-SECOND.html` in the first study's folder by default.
        tell: called with each difference between the two studies, a sentence.

    Raises:
        MirstError: a folder holds no finished study, the same folder twice, or no defense in common.
    """
    one, other = read_results(first), read_results(second)
    if one.folder.resolve() == other.folder.resolve():
        raise MirstError(f"{first} and {second} are the same study; give two different studies")
    path = one.folder / f"comparison-with-{other.folder.name}.html" if out is None else Path(out)
    rows, sentences = side_by_side(one, other), unlike(one, other)
    render(
        path,
        "two_studies.html.j2",
        name=f"{one.folder.name} and {other.folder.name}",
        studies=[one, other],
        unlike=sentences,
        rows=rows,
        without_conclusion=(NOT_SIGNIFICANT, OTHER_IMAGES, OTHER_ATTACKS, OTHER_CLASS),
    )
    for sentence in sentences:
        tell(sentence)
    return path


def side_by_side(one: Results, other: Results) -> pd.DataFrame:
    """A row per shared defense, attack and metric, with intervals of both and the difference, `other` minus `one`.

    Suites are compared at eps that both studies were run at. Where both studies attacked the same images in the same
    way under the same seeds, and have the same positive class, the difference is a paired one with its interval. An
    ensemble has no seed of its own: it is paired with the models of every seed.
    Otherwise it is `-`, since it would not be an effect of the defense, and `reading` says why.

    Raises:
        MirstError: no defense in common.
    """
    theirs = {entry.title: entry for entry in other.spec.defenses}
    shared = [(entry, theirs[entry.title]) for entry in one.spec.defenses if entry.title in theirs]
    if not shared:
        raise MirstError(f"{one.folder} and {other.folder} have no defense in common; there is nothing to compare")
    contexts = ReportContext(one, beside=other), ReportContext(other, beside=one)
    rows: list[tuple[str, ...]] = []
    found: list[Difference | str] = []
    for metric in (name for name, entry in study_metrics(one.positive).items() if entry.headline):
        left, right = (intervals(context, metric) for context in contexts)
        for entry, counterpart in shared:
            if entry.title not in left or entry.title not in right:
                continue  # it diverged in one of them
            for attack in left.index:
                values = (str(table.loc[attack, entry.title]) for table in (left, right))
                rows.append((entry.title, attack_name(attack), metric_named(metric).title, *values))
                attacked = [
                    of_defense(context.under_attack[attack], side)
                    for context, side in zip(contexts, (entry, counterpart), strict=True)
                ]
                paired = _with_equal_seeds(attacked[0], attacked[1], one, other)
                found.append(_why_not(one, other, attack) or _difference(*paired, one, metric))
    table = pd.DataFrame(rows, columns=["defense", "attack", "metric", "first", "second"])
    corrected = iter(holm([one.p for one in found if isinstance(one, Difference)]))
    table["difference"] = [str(one) if isinstance(one, Difference) else "-" for one in found]
    table["reading"] = [_reading(one, next(corrected)) if isinstance(one, Difference) else one for one in found]
    return table


def unlike(one: Results, other: Results) -> list[str]:
    """The differences between the settings of two studies, a sentence each, except defenses that only one has."""
    data = one.run["data"], other.run["data"]
    shared = [(e, c) for e in one.spec.defenses for c in other.spec.defenses if e.title == c.title]
    sentences = [
        *_settings(_resolved(one), _resolved(other)),
        *_attacks(one, other),
        *_suites(one, other),
        *(_both(e.title, e.defense, c.defense) for e, c in shared if e.defense != c.defense),
        *(_both(key, data[0][key], data[1][key]) for key in ("classes", "positive") if data[0][key] != data[1][key]),
    ]
    if data[0]["fingerprint"] != data[1]["fingerprint"]:
        sentences.append("The images, labels or groups are not the same.")
    return sentences


def _resolved(results: Results) -> dict[str, Any]:
    """The settings of the study; the seeds of ensembles are those of their members."""
    origin, settings = results.origin, results.spec.resolved()
    return settings if origin is None else settings | {"seeds": f"ensembles of {list(origin.seeds)}"}


def _both(what: str, first: object, second: object) -> str:
    return f"{what}: {first} in the first study, {second} in the second."


def _settings(first: Mapping[str, Any], second: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for key, mine in first.items():
        theirs = second.get(key)
        if mine == theirs or (within + key) in ("out", "reuse", "defenses", "attacks"):
            continue
        if isinstance(mine, dict) and isinstance(theirs, dict) and not within:
            yield from _settings(mine, theirs, f"{key}.")
        else:
            yield _both(within + key, mine, theirs)


def _attacks(one: Results, other: Results) -> Iterator[str]:
    mine, theirs = _own_attacks(one), _own_attacks(other)
    for label in dict.fromkeys((*mine, *theirs)):
        if mine.get(label) != theirs.get(label):
            yield _both(f"attack {label}", mine.get(label, "none"), theirs.get(label, "none"))


def _own_attacks(results: Results) -> dict[str, Attack]:
    return {entry.label: entry.attack for entry in results.spec.attacks}


def _suites(one: Results, other: Results) -> Iterator[str]:
    for suite in SUITES:
        radii = [sorted(suite_eps(results, suite)) for results in (one, other)]
        if all(radii) and radii[0] != radii[1]:
            texts = (f"eps {', '.join(map(pixels, own))}" for own in radii)
            yield f"{_both(suite, *texts)[:-1]}; the comparison uses an eps that both studies have, if there is one."
    for suite in (*SUITES, "distances", "corruptions"):
        there = [_was_run(results, suite) for results in (one, other)]
        if there[0] != there[1]:
            folder = (one, other)[there.index(False)].folder
            yield f"{suite}: not run on {folder}, so it is not compared (mirst evaluate {folder} --suite {suite})."


def _was_run(results: Results, suite: str) -> bool:
    return suite in results.suites or (results.folder / f"{suite}.csv").exists()


def _why_not(one: Results, other: Results, attack: object) -> str:
    """Why a difference under the attack would be meaningless; empty if it is meaningful."""
    if one.positive != other.positive:
        return OTHER_CLASS
    return OTHER_ATTACKS if attack == PROTOCOL and _own_attacks(one) != _own_attacks(other) else ""


def _with_equal_seeds(
    first: pd.DataFrame, second: pd.DataFrame, one: Results, other: Results
) -> tuple[pd.DataFrame, pd.DataFrame]:
    if one.origin is not None:
        return for_every_seed(first, other), second
    return first, second if other.origin is None else for_every_seed(second, one)


def _difference(first: pd.DataFrame, second: pd.DataFrame, results: Results, metric: str) -> Difference | str:
    try:
        return pooled_difference(first, second, results.classes, results.positive, metric)
    except MirstError:
        return OTHER_IMAGES


def _reading(difference: Difference, p: float) -> str:
    if p >= LEVEL:
        return NOT_SIGNIFICANT
    return f"the {'second' if difference.value > 0 else 'first'} is better"
