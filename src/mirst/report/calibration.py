"""Calibration: whether predicted probabilities agree with the observed frequencies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from mirst.evaluation.calibration import BINS, bin_of, brier_score, calibration_error
from mirst.metrics import CLASS_SCORE
from mirst.report.charts import Axis, Chart, Line, line_chart
from mirst.report.context import ReportContext, of_defense, scored
from mirst.report.exports import Table
from mirst.report.held_out import HeldOut, attacked_rows

CORRECT = "correctly classified"
COLUMNS = [
    *("defense", "attack", "calibrated_on", "images", "lowest_temperature", "highest_temperature"),
    *("ece", "ece_low", "ece_high", "brier", "calibrated_ece", "calibrated_low", "calibrated_high", "calibrated_brier"),
]


@dataclass(frozen=True)
class Reliability:
    """Uncalibrated probabilities of one defense under one attack, pooled over the folds.

    >>> rows = pd.DataFrame({"score": [0.0, 0.0], "label": ["a", "b"]})
    >>> reliability(rows, "b").ece
    0.0
    """

    bins: pd.DataFrame
    """`images, probability` (mean) and `share` (of positive images) of the bins that have images, as in `bin_of`."""

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over the images of |share - probability| of their bin."""
        gaps = (self.bins["share"] - self.bins["probability"]).abs()
        return float((gaps * self.bins["images"]).sum() / self.bins["images"].sum())


@dataclass(frozen=True)
class Calibration:
    """The calibration figure of one defense, clean and under the strongest attack of `attacked_rows`.

    >>> Calibration("ce", line_chart("ce", [], Axis("probability"), Axis("share"), "ce: no images"), under={}).under
    {}
    """

    title: str
    chart: Chart
    under: dict[str, Reliability]
    """By the attack's heading."""


def calibrations(context: ReportContext) -> list[Calibration]:
    """For every defense that did not diverge, without the rows that have no finite score."""
    results, found = context.results, []
    conditions = list(attacked_rows(context).items())
    calibrated = CORRECT if results.positive is None else results.positive
    for entry in results.spec.defenses:
        rows = {name: scored(of_defense(own, entry)) for name, own in (conditions[0], conditions[-1])}
        if results.positive is None:
            rows = {name: predicted_class(own) for name, own in rows.items()}
        if all(len(own) for own in rows.values()):
            under = {name: reliability(own, calibrated) for name, own in rows.items()}
            errors = ", ".join(f"{name} {one.ece:.3f}" for name, one in under.items())
            alt = (
                f"{entry.title}: share of {calibrated} images by predicted probability. "
                f"Expected calibration error: {errors}."
            )
            found.append(Calibration(entry.title, _chart(entry.title, under, calibrated, alt), under))
    return found


def predicted_class(rows: pd.DataFrame) -> pd.DataFrame:
    """`score`, the log-odds of the predicted class, and `label`, whether it is the true one, for `reliability`.

    >>> rows = pd.DataFrame({"label": ["a"], "prediction": ["b"], "score:a": [-1.0], "score:b": [1.0]})
    >>> predicted_class(rows).values.tolist()
    [[1.0, 'misclassified']]
    """
    columns = [CLASS_SCORE + name for name in rows["prediction"].unique()]
    own = np.array(columns) == CLASS_SCORE + rows[["prediction"]].to_numpy()
    right = np.where(rows["label"] == rows["prediction"], CORRECT, "misclassified")
    return pd.DataFrame({"score": rows[columns].where(own).max(axis=1), "label": right})


def reliability(rows: pd.DataFrame, positive: str) -> Reliability:
    """The reliability of outcome rows, whose `score` is the log-odds of `positive` and finite."""
    probability, is_positive = expit(rows["score"].to_numpy()), (rows["label"] == positive).to_numpy()
    number = bin_of(probability)
    images = np.bincount(number, minlength=BINS)
    sums = [np.bincount(number, weights, BINS)[images > 0] for weights in (probability, is_positive)]
    images = images[images > 0]
    return Reliability(pd.DataFrame({"images": images, "probability": sums[0] / images, "share": sums[1] / images}))


def error_table(found: Sequence[HeldOut]) -> Table:
    """Calibration errors before and after temperature scaling, of the images with finite logits."""
    numbers = pd.DataFrame([_errors(one) for one in found if one.is_scored.any()], columns=COLUMNS)
    shown = numbers[["defense", "attack", "calibrated_on", "images"]].copy()
    shown["temperature"] = [
        f"{low:.2f} to {high:.2f}" for low, high in numbers[["lowest_temperature", "highest_temperature"]].to_numpy()
    ]
    for name, title in (("", "uncalibrated"), ("calibrated_", "calibrated")):
        ends = numbers[[f"{name}ece", f"{name or 'ece_'}low", f"{name or 'ece_'}high"]].to_numpy()
        shown[f"ECE, {title}"] = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in ends]
        shown[f"Brier score, {title}"] = numbers[f"{name}brier"].map("{:.3f}".format)
    return Table(shown.rename(columns={"calibrated_on": "calibrated on"}), numbers)


def _errors(one: HeldOut) -> tuple[object, ...]:
    at = one.is_scored
    labels, groups = one.labels[at], one.rows["group"].to_numpy()[at]
    temperatures = [model.temperature for model in one.models.values()]
    cells: list[object] = []
    for probabilities in (one.uncalibrated[at], one.calibrated[at]):
        error = calibration_error(probabilities, labels, groups)
        cells += [error.value, error.low, error.high, brier_score(probabilities, labels)]
    place = (one.defense, one.attack, one.calibrated_on, int(at.sum()))
    return *place, min(temperatures), max(temperatures), *cells


def _chart(title: str, under: dict[str, Reliability], positive: str, alt: str) -> Chart:
    lines = [
        Line(name, one.bins["probability"], one.bins["share"], number, np.arange(len(one.bins)))
        for number, (name, one) in enumerate(under.items())
    ]
    of = "the predicted class" if positive == CORRECT else positive
    x, y = Axis(f"predicted probability of {of}"), Axis(f"share of {positive} images")
    return line_chart(title, lines, x, y, alt, diagonal=True)
