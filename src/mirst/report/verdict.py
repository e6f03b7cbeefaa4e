"""The result of a study in three sentences, or four for a study of lesions."""

from collections.abc import Mapping

import pandas as pd

from mirst.evaluation import CLEAN, Difference
from mirst.report.baselines import baseline_title, baseline_titles, baselines_at, for_every_seed
from mirst.report.context import ReportContext, of_defense, pixels
from mirst.report.study_notes import constant_f1, weights_of
from mirst.study import Results
from mirst.study.summary import pooled_difference, pooled_interval

Intervals = Mapping[str, pd.DataFrame]
"""By the metric's name, as from `mirst.report.differences.intervals`."""


def verdict(context: ReportContext, whole: Intervals) -> list[str]:
    """What was trained; the numbers, clean and under the strongest attacks; whether they are reliable.

    For a study of lesions also whether the best network adds anything to the box.
    """
    results = context.results
    box = [] if baseline_title("box") not in baseline_titles(results) else [_beside_the_box(context, whole)]
    return [_training(results), _numbers(context, whole), *box, _reliability(results)]


def best_under_attack(f1: pd.DataFrame) -> str:
    """The defense of the highest F1 under the strongest attacks that were run, the last row."""
    return max(f1.columns, key=lambda column: f1[column].iloc[-1].value)


def _training(results: Results) -> str:
    spec, data = results.spec, results.run["data"]
    classes = ", ".join(f"{count} {name}" for name, count in data["per_class"].items())
    seeds = _counted(len(spec.seeds if results.origin is None else results.origin.seeds), "seed")
    one = (
        ""
        if results.origin is None
        else "; the models of all seeds of a fold are one ensemble, the mean of their logits"
    )
    return (
        f"On {data['images']} images ({classes}; {data['groups']} groups of copies or patients), "
        f"{spec.model.name} with {weights_of(results)} was trained at {spec.data.size} px with "
        f"{_defenses([entry.title for entry in spec.defenses])}, each on {spec.folds.in_words} "
        f"with {seeds}{one}."
    )


def _numbers(context: ReportContext, whole: Intervals) -> str:
    results = context.results
    f1 = whole["f1"]
    worst = str(f1.index[-1])
    eps = pixels(context.under_attack[worst]["eps"].max())
    best = best_under_attack(f1)
    parts = [
        f"{best}, the best defense under attack, has {_values(whole, best, CLEAN)} without attack and "
        f"{_values(whole, best, worst)} under the strongest attacks that were run ({worst}, eps {eps})"
    ]
    undefended = next(
        (entry.title for entry in results.spec.defenses if entry.name == "ce" and entry.title != best), None
    )
    if undefended is not None and undefended in f1:
        parts.append(
            f"training without a defense ({undefended}) has {_values(whole, undefended, CLEAN)} and "
            f"{_values(whole, undefended, worst)}"
        )
    if len(results.classes) == 2:
        parts.append(
            f"predicting {results.positive} for every image would give F1 "
            f"{constant_f1(results.outcomes, results.scored, results.classes, results.positive):.3f} under any attack"
        )
    return "; ".join(parts) + "."


def _beside_the_box(context: ReportContext, whole: Intervals) -> str:
    """The paired differences of F1 between the best network and the box alone, which is the same under any attack."""
    results, best = context.results, best_under_attack(whole["f1"])
    seeds = " over the models of all seeds" if results.origin is None and len(results.spec.seeds) > 1 else ""
    entry = next(entry for entry in results.spec.defenses if entry.title == best)
    clean = baselines_at(results, 0.0)
    box = clean[clean["defense"] == baseline_title("box")]
    readings = []
    for attack in (CLEAN, str(whole["f1"].index[-1])):
        network = of_defense(context.under_attack[attack], entry)
        gain = pooled_difference(for_every_seed(box, results), network, results.classes, results.positive)
        readings.append(f"{_reading(gain)} (difference of F1{seeds} {gain})")
    return (
        f"The box alone, without a network, has F1 {pooled_interval(box, results.classes, results.positive)} without "
        f"attack and under any attack on pixels; {best} {readings[0]} without attack and {readings[1]} under the "
        "strongest attacks that were run."
    )


def _reading(gain: Difference) -> str:
    if gain.low > 0:
        return "adds to the box"
    return "is below the box" if gain.high < 0 else "cannot be told apart from the box"


def _values(whole: Intervals, defense: str, attack: str) -> str:
    rate = "recall" if "recall" in whole else "sensitivity"
    f1, other = (str(whole[metric].at[attack, defense]) for metric in ("f1", rate))
    return f"F1 {f1} and {rate} {other}"


def _reliability(results: Results) -> str:
    if not results.checks:
        return (
            "Only the study's own attacks were run, without checks for gradient masking, so the numbers under attack "
            f"are upper bounds: mirst evaluate {results.folder} --suite standard runs strong attacks and the checks."
        )
    suite, checks = list(results.checks.items())[-1]
    not_passed = checks[checks["verdict"] != "pass"]
    if len(not_passed):
        return (
            f"{len(not_passed)} of {len(checks)} checks for gradient masking under {suite} did not pass "
            f"({_listed(sorted(set(not_passed['name'])))}): the numbers under attack may be too high."
        )
    return (
        f"The models of fold 0 passed all {checks['name'].nunique()} checks for gradient masking under {suite}, so "
        "there is no sign that the numbers under attack are too high."
    )


def _defenses(titles: list[str]) -> str:
    return f"the {'defense' if len(titles) == 1 else 'defenses'} {_listed(titles)}"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
