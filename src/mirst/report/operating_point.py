"""The operating point of each model, and the effect of moving it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mirst.nn import read_card
from mirst.report.charts import Axis, Chart, Line, line_chart
from mirst.report.context import ReportContext, of_defense, scored
from mirst.study import Results
from mirst.study.named_configs import NamedDefense
from mirst.thresholds import roc_curve

WANTED = 0.9
"""The sensitivity on clean images of the moved operating point."""


@dataclass(frozen=True)
class Rates:
    """At the operating point, and with the threshold moved until clean sensitivity is at least `WANTED`.

    >>> Rates(0.8, 0.9, moved_sensitivity=0.9, moved_specificity=0.7).moved_specificity
    0.7
    """

    sensitivity: float
    specificity: float
    moved_sensitivity: float
    moved_specificity: float


@dataclass(frozen=True)
class OperatingPoint:
    """The operating points of one defense, pooled over the folds, clean and under the strongest suite that was run.

    >>> chart = line_chart("ce", [], Axis("1 - specificity"), Axis("sensitivity"), "ce: no images")
    >>> OperatingPoint("ce", chart, thresholds=[0.0, 0.4], shift=-0.5, under={}).thresholds
    [0.0, 0.4]
    """

    title: str
    chart: Chart
    thresholds: list[float]
    """For each trial, folds first: the log-odds above which the model predicts the positive class."""
    shift: float
    """By how much the threshold moves for `WANTED`, in log-odds."""
    under: dict[str, Rates]
    """By the attack's heading."""


def operating_points(context: ReportContext) -> list[OperatingPoint]:
    """For every defense that did not diverge and whose models exist, without the rows that have no finite score.

    None with more than two classes.
    """
    results = context.results
    if len(results.classes) != 2:
        return []
    found = []
    for entry in results.spec.defenses:
        thresholds = _thresholds(results, entry)
        rows = {name: scored(of_defense(own, entry)) for name, own in context.clean_and_strongest.items()}
        if not thresholds or any(set(own["label"]) != set(results.classes) for own in rows.values()):
            continue  # a curve needs images of both classes
        found.append(_point(entry.title, thresholds, rows, results.scored))
    return found


def _thresholds(results: Results, entry: NamedDefense) -> dict[tuple[int, int], float]:
    """By fold and seed; empty if a model is missing."""
    models = {(trial.fold, trial.seed): results.files.trial(trial.name).model for trial in results.trials(entry)}
    if not all(path.exists() for path in models.values()):
        return {}
    return {trial: read_card(path).threshold for trial, path in models.items()}


def _point(
    title: str, thresholds: dict[tuple[int, int], float], rows: dict[str, pd.DataFrame], positive: str
) -> OperatingPoint:
    scores = {name: (_above(own, thresholds), own["label"] == positive) for name, own in rows.items()}
    clean, is_positive = next(iter(scores.values()))
    shift = float(np.quantile(clean[is_positive], 1 - WANTED, method="lower"))
    shift = float(np.nextafter(shift, -np.inf))
    under = {
        name: Rates(*_rates(score, truth, 0.0), *_rates(score, truth, shift)) for name, (score, truth) in scores.items()
    }
    rates = "; ".join(
        f"{name}: sensitivity {one.sensitivity:.3f}, specificity {one.specificity:.3f}" for name, one in under.items()
    )
    alt = f"{title}: sensitivity against 1 - specificity as the threshold moves. At the operating point, {rates}."
    return OperatingPoint(title, _chart(title, scores, under, alt), list(thresholds.values()), shift, under)


def _above(rows: pd.DataFrame, thresholds: dict[tuple[int, int], float]) -> pd.Series:
    """How far each score, at the limit of the attacks where that was measured, lies above its model's threshold."""
    own = [thresholds[fold, seed] for fold, seed in zip(rows["fold"], rows["seed"], strict=True)]
    at_limit = "worst_score" in rows and bool(rows["worst_score"].notna().all())
    above: pd.Series[float] = rows["worst_score" if at_limit else "score"] - np.array(own)
    return above


def _rates(score: pd.Series, is_positive: pd.Series, threshold: float) -> tuple[float, float]:
    called = score > threshold
    return float(called[is_positive].mean()), float((~called)[~is_positive].mean())


def _chart(title: str, scores: dict[str, tuple[pd.Series, pd.Series]], under: dict[str, Rates], alt: str) -> Chart:
    lines = []
    for number, (name, (score, truth)) in enumerate(scores.items()):
        false_rate, true_rate, _ = roc_curve(truth, score)
        point = under[name]
        lines.append(Line(name, false_rate, true_rate, number))
        lines.append(Line("", [1 - point.specificity], [point.sensitivity], number, [0]))
    return line_chart(title, lines, Axis("1 - specificity"), Axis("sensitivity"), alt, height=300, diagonal=True)
