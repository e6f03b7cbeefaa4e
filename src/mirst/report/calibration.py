"""Calibration: whether predicted probabilities agree with the observed frequencies."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit

from mirst.metrics import CLASS_SCORE
from mirst.report.context import ReportContext, of_defense, scored
from mirst.report.figures import as_png, data_uri, without_frame

BINS = 10
CORRECT = "correctly classified"
COLOURS = ("#2b6cb0", "#c05621")


@dataclass(frozen=True)
class Reliability:
    """Calibration of one defense under one attack, pooled over the folds.

    >>> rows = pd.DataFrame({"score": [0.0, 0.0], "label": ["a", "b"]})
    >>> reliability(rows, "b").ece, reliability(rows, "b").brier
    (0.0, 0.25)
    """

    bins: pd.DataFrame
    """`low, high, images, probability` (mean) and `share` (of positive images); ten bins of equal width."""
    ece: float
    """Expected calibration error: the mean over the images of |share - probability| of their bin."""
    brier: float
    """Mean of (probability - is positive)^2."""


@dataclass(frozen=True)
class Calibration:
    """The calibration figure of one defense, clean and under the strongest suite that was run.

    >>> Calibration("ce", "data:image/png;base64,", "ce: no images", under={}).title
    'ce'
    """

    title: str
    picture: str
    alt: str
    under: dict[str, Reliability]
    """By the attack's heading."""


def calibrations(context: ReportContext) -> list[Calibration]:
    """For every defense that did not diverge, without the rows that have no finite score."""
    results, found = context.results, []
    calibrated = CORRECT if results.positive is None else results.positive
    for entry in results.spec.defenses:
        rows = {name: scored(of_defense(own, entry)) for name, own in context.clean_and_strongest.items()}
        if results.positive is None:
            rows = {name: predicted_class(own) for name, own in rows.items()}
        if all(len(own) for own in rows.values()):
            under = {name: reliability(own, calibrated) for name, own in rows.items()}
            errors = ", ".join(f"{name} {one.ece:.3f}" for name, one in under.items())
            alt = (
                f"{entry.title}: share of {calibrated} images by predicted probability. "
                f"Expected calibration error: {errors}."
            )
            picture = data_uri(as_png(_figure(under, calibrated)))
            found.append(Calibration(entry.title, picture, alt, under))
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
    """The reliability of outcome rows, whose `score` is the log-odds of `positive` and finite.

    Source of the error's definition: Naeini et al. 2015, on the probability of the positive class.
    """
    probability, is_positive = expit(rows["score"].to_numpy()), (rows["label"] == positive).to_numpy()
    number = np.minimum((probability * BINS).astype(int), BINS - 1)
    images = np.bincount(number, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(number, weights, BINS) / images for weights in (probability, is_positive)]
    bins = pd.DataFrame(
        {
            "low": np.arange(BINS) / BINS,
            "high": np.arange(1, BINS + 1) / BINS,
            "images": images,
            "probability": means[0],
            "share": means[1],
        }
    )
    gaps = (bins["share"] - bins["probability"]).abs().fillna(0)
    brier = float(((probability - is_positive) ** 2).mean())
    return Reliability(bins, float((gaps * images).sum() / images.sum()), brier)


def _figure(under: dict[str, Reliability], positive: str) -> Figure:
    figure = Figure(figsize=(3.6, 3.9), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="#a0aec0", linewidth=1, linestyle="--")
    for place, ((name, one), colour) in enumerate(zip(under.items(), COLOURS, strict=True)):
        filled = one.bins[one.bins["images"] > 0]
        axes.plot(filled["probability"], filled["share"], "o-", color=colour, label=name, markersize=4, linewidth=1.2)
        middle = (one.bins["low"] + one.bins["high"]) / 2 + (place - 0.5) * 0.04
        counts.bar(middle, one.bins["images"], 0.04, color=colour)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.set_ylabel(f"share of {positive} images", parse_math=False)  # a class may be called $x$
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    of = "the predicted class" if positive == CORRECT else positive
    counts.set_xlabel(f"predicted probability of {of}", parse_math=False)
    counts.set_ylabel("images")
    for panel in (axes, counts):
        without_frame(panel)
    return figure
