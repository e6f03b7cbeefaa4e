"""Where each model draws the line, and what moving it would trade."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from mirst.nn import read_card
from mirst.report.calibration import COLOURS
from mirst.report.confusion import attack_conditions
from mirst.report.figures import as_png, data_uri
from mirst.report.tables import of_defense, scored
from mirst.study import Results
from mirst.study.named_configs import NamedDefense
from mirst.study.trial import Trial

WANTED = 0.9
"""The sensitivity on clean images that the line could be moved to."""


@dataclass(frozen=True)
class Rates:
    """At the operating point, and with the line moved until clean sensitivity is at least `WANTED`."""

    sensitivity: float
    specificity: float
    moved_sensitivity: float
    moved_specificity: float


@dataclass(frozen=True)
class OperatingPoint:
    """Of one defense, pooled over the folds, clean and under the strongest suite present."""

    title: str
    picture: str
    alt: str
    thresholds: list[float]
    """Of each trial, folds first: the log-odds of the positive class from which on the model answers it."""
    shift: float
    """By how much the line moves for `WANTED`, in log-odds."""
    under: dict[str, Rates]
    """By the attack's heading."""


def operating_points(results: Results) -> list[OperatingPoint]:
    """Of every defense that did not diverge and has its models still, rows without a finite score left out.

    None with more than two classes.
    """
    if len(results.classes) != 2:
        return []
    conditions = list(attack_conditions(results).items())
    conditions = [conditions[0], conditions[-1]]
    found = []
    for entry in results.spec.defenses:
        thresholds = _thresholds(results, entry)
        rows = {name: scored(of_defense(own, entry)) for name, own in conditions}
        if not thresholds or any(set(own["label"]) != set(results.classes) for own in rows.values()):
            continue  # a curve needs images of both classes
        found.append(_point(entry.title, thresholds, rows, results.positive))
    return found


def _thresholds(results: Results, entry: NamedDefense) -> dict[tuple[int, int], float]:
    """By fold and seed; empty where a model is missing."""
    found = {}
    for fold in range(results.spec.folds.count):
        for seed in results.spec.seeds:
            path = results.files.trial(Trial(entry, fold, seed).name).model
            if not path.exists():
                return {}
            found[fold, seed] = read_card(path).threshold
    return found


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
    told = "; ".join(
        f"{name}: sensitivity {one.sensitivity:.3f}, specificity {one.specificity:.3f}" for name, one in under.items()
    )
    picture = data_uri(as_png(_figure(scores, under)))
    alt = f"{title}: sensitivity against 1 - specificity as the threshold moves. At the operating point, {told}."
    return OperatingPoint(title, picture, alt, list(thresholds.values()), shift, under)


def _above(rows: pd.DataFrame, thresholds: dict[tuple[int, int], float]) -> pd.Series:
    """How far each score lies above the threshold of its own model."""
    own = [thresholds[fold, seed] for fold, seed in zip(rows["fold"], rows["seed"], strict=True)]
    above: pd.Series[float] = rows["score"] - np.array(own)
    return above


def _rates(score: pd.Series, is_positive: pd.Series, line: float) -> tuple[float, float]:
    called = score > line
    return float(called[is_positive].mean()), float((~called)[~is_positive].mean())


def _figure(scores: dict[str, tuple[pd.Series, pd.Series]], under: dict[str, Rates]) -> Figure:
    figure = Figure(figsize=(3.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#a0aec0", linewidth=1, linestyle="--")
    for (name, (score, truth)), colour in zip(scores.items(), COLOURS, strict=True):
        false_rate, true_rate, _ = roc_curve(truth, score, drop_intermediate=False)
        axes.plot(false_rate, true_rate, color=colour, linewidth=1.4, label=name)
        point = under[name]
        axes.plot(1 - point.specificity, point.sensitivity, "o", color=colour, markersize=7, markeredgecolor="white")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
