"""The validation of a study on other data sets: internal and external metrics, and the operating point."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mirst.data.readers.skipped_files import listed
from mirst.evaluation import CLEAN, certified_rows
from mirst.metrics import class_metrics, metric_named
from mirst.nn import read_card
from mirst.report.baselines import baseline_titles, baselines_at
from mirst.report.context import ReportContext, attack_name, of_defense, pixels
from mirst.report.exports import Table
from mirst.report.tables import corruption_grid
from mirst.study import External, Results, read_externals
from mirst.study.named_configs import NamedDefense
from mirst.study.summary import pooled_change, pooled_interval
from mirst.thresholds import youden_threshold


@dataclass(frozen=True)
class Validation:
    """The validation on one data set, for readers.

    >>> nothing = Table(pd.DataFrame(), pd.DataFrame())
    >>> Validation("clinic", {}, "No image is left out.", nothing, nothing, "the Youden index").name
    'clinic'
    """

    name: str
    record: dict[str, Any]
    """As `External.record`."""
    left_out: str
    """Which images are left out and why, in a sentence."""
    changes: Table
    """Internal and external metrics with their difference."""
    points: Table
    """Sensitivity and specificity at the operating points of the models, and at points chosen on the external set."""
    refitting: str
    """The rule of the latter."""
    corruptions: pd.DataFrame | None = None
    """F1 under each corruption, as `corruption_grid`, if it was measured."""


def external_validations(context: ReportContext) -> list[Validation]:
    """The validations of a study on other data sets, by their name."""
    return [_validation(context.results, one) for one in read_externals(context.results) if not one.is_held_out]


def held_out_test(context: ReportContext) -> Validation:
    """The test of a study on the images that `folds.held_out` keeps."""
    (one,) = (one for one in read_externals(context.results) if one.is_held_out)
    return _validation(context.results, one)


def external_changes(results: Results, external: External) -> Table:
    """Metrics of every defense on its test folds and on the external set, each with its 95 % interval by group.

    The change is external minus internal. Internal rows are pooled over the folds and seeds, external rows over the
    models of all folds and seeds. Certified figures are lower bounds. Only attacks and eps of both sides are compared.
    Defenses of which a trial failed are left out. The baselines of a study of
    lesions come last.
    """
    inside, outside = _conditions(results, external.models), _conditions(external.models, results)
    combined = {} if external.ensembles is None else _conditions(external.ensembles, results)
    inner, outer = ("test folds", "held-out") if external.is_held_out else ("internal", "external")
    numbers, shown = [], []
    for metric in class_metrics(results.positive):
        for attack in (name for name in inside if name in outside):
            own, other = inside[attack], outside[attack]
            columns = _of_defenses(results, own, other, combined.get(attack, other[:0]))
            columns |= _of_baselines(results, external.models, own["eps"].max())
            for title, (own, other, together) in columns.items():
                known = results.classes, results.positive, metric
                found = {
                    "internal": pooled_interval(own, *known),
                    "external": pooled_interval(other, *known),
                    "change": pooled_change(own, other, *known),
                } | ({} if together.empty else {"ensemble": pooled_interval(together, *known)})
                key = {"metric": metric, "attack": attack, "defense": title}
                numbers += [key | {"figure": name, **_ends(one)} for name, one in found.items()]
                shown.append(
                    key
                    | {
                        "metric": metric_named(metric).title,
                        inner: str(found["internal"]),
                        outer: str(found["external"]),
                        f"{outer} - {inner}": str(found["change"]),
                        f"ensemble of the folds, {outer}": str(found.get("ensemble", "-")),
                    }
                )
    return Table(pd.DataFrame(shown), pd.DataFrame(numbers))


Column = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
"""Internal rows, external rows, and those of the ensembles, which may be none."""


def _of_defenses(
    results: Results, inside: pd.DataFrame, outside: pd.DataFrame, combined: pd.DataFrame
) -> dict[str, Column]:
    return {
        entry.title: (of_defense(inside, entry), of_defense(outside, entry), of_defense(combined, entry))
        for entry in results.spec.defenses
        if results.is_whole(entry)
    }


def _of_baselines(results: Results, models: Results, eps: float) -> dict[str, Column]:
    """Of a study of lesions, in their worst case within eps."""
    own, other = (baselines_at(one, eps) for one in (results, models))
    sides = {name: (own[own["defense"] == name], other[other["defense"] == name]) for name in baseline_titles(models)}
    return {name: (*pair, other[:0]) for name, pair in sides.items() if all(map(len, pair))}


def _conditions(results: Results, beside: Results) -> dict[str, pd.DataFrame]:
    """Rows by heading: as `ReportContext.under_attack`, then what is certified at each eps."""
    under = ReportContext(results, beside=beside).under_attack
    rows = {
        attack_name(name) + ("" if name == CLEAN else f" (eps {pixels(own['eps'].max())})"): own
        for name, own in under.items()
    }
    if results.certificates is not None:
        proven = certified_rows(results.certificates, results.classes, results.positive)
        by_eps = proven.groupby(["attack", "eps"])
        rows |= {f"{name} (eps {pixels(own['eps'].max())})": own for (name, _), own in by_eps}
    return rows


def _validation(results: Results, external: External) -> Validation:
    return Validation(
        external.name,
        external.record,
        left_out_sentence(external.record["left_out"]),
        external_changes(results, external),
        _points(results, external),
        _rule(results),
        corruption_grid(results, "f1", external.folder),
    )


def left_out_sentence(left_out: dict[str, str]) -> str:
    """How many images are left out, which and why.

    >>> left_out_sentence({"1.png": "copy of 7.png of the study"})
    '1 image is left out: 1.png (copy of 7.png of the study).'
    >>> left_out_sentence({})
    'No image is left out: none is a copy of an image of the study.'
    """
    if not left_out:
        return "No image is left out: none is a copy of an image of the study."
    images = "1 image is" if len(left_out) == 1 else f"{len(left_out)} images are"
    return f"{images} left out: {listed([f'{name} ({reason})' for name, reason in left_out.items()])}."


def _ends(one: Any) -> dict[str, float]:
    return {"value": one.value, "low": one.low, "high": one.high}


def _rule(results: Results) -> str:
    point = results.spec.training.operating_point
    if point.rule == "argmax":
        return "the log-odds that maximise sensitivity plus specificity"
    return point.described().partition(" on its ")[0]


def _points(results: Results, external: External) -> Table:
    """Without rows for more than two classes."""
    under = ReportContext(external.models).clean_and_strongest
    rows = []
    for entry in results.spec.defenses if len(results.classes) == 2 else ():
        if not results.is_whole(entry):
            continue
        own = {name: of_defense(part, entry) for name, part in under.items()}
        refitted = _refitted(results, own)
        for name, part in own.items():
            is_positive = part["label"] == results.positive
            called = part["prediction"] == results.positive
            again = part["score"] > [
                refitted[fold, seed] for fold, seed in zip(part["fold"], part["seed"], strict=True)
            ]
            rows.append(
                {
                    "defense": entry.title,
                    "attack": name,
                    "thresholds": ", ".join(f"{value:+.2f}" for value in _thresholds(results, entry)) or "-",
                    "sensitivity": called[is_positive].mean(),
                    "specificity": (~called)[~is_positive].mean(),
                    "refitted thresholds": ", ".join(f"{value:+.2f}" for value in refitted.values()),
                    "refitted sensitivity": again[is_positive].mean(),
                    "refitted specificity": (~again)[~is_positive].mean(),
                }
            )
    numbers = pd.DataFrame(rows)
    return Table(numbers.map(lambda cell: cell if isinstance(cell, str) else f"{cell:.3f}"), numbers)


def _thresholds(results: Results, entry: NamedDefense) -> list[float]:
    """Of the models of a defense; empty if one is missing."""
    paths = [results.files.trial(trial.name).model for trial in results.trials(entry)]
    return [read_card(path).threshold for path in paths] if all(path.exists() for path in paths) else []


def _refitted(results: Results, under: dict[str, pd.DataFrame]) -> dict[tuple[int, int], float]:
    """The threshold of each model by the rule of the study on the external images; by Youden's index for argmax."""
    point = results.spec.training.operating_point
    rows = list(under.values())[-1 if point.robust else 0]
    fit = youden_threshold if point.rule == "argmax" else point.threshold
    finite = rows[np.isfinite(rows["score"])]
    return {
        (fold, seed): fit(part["label"] == results.positive, part["score"])
        for (fold, seed), part in finite.groupby(["fold", "seed"])
    }
