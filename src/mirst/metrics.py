"""Classification metrics from labels, predictions and scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

METRICS = ("f1", "sensitivity", "specificity", "auc", "accuracy")

Value = TypeVar("Value", float, NDArray[np.float64])
Rows = NDArray[Any]
"""`(N,)`, one entry per image."""


class Ratio(NamedTuple):
    """A metric as one sum over the images divided by another."""

    part: NDArray[np.float64]
    whole: NDArray[np.float64]
    sides: tuple[NDArray[np.bool_], ...]
    """The images without which the metric is undefined, such as the positives."""

    @property
    def value(self) -> float:
        """In [0, 1]; NaN where the metric is undefined."""
        if not all(side.any() for side in self.sides):
            return float("nan")
        return float(self.part.sum() / self.whole.sum())


def classification_metrics(
    label: ArrayLike, prediction: ArrayLike, score: ArrayLike, classes: Sequence[str], positive: str
) -> dict[str, float]:
    """F1, sensitivity, specificity, AUC and accuracy, each in [0, 1].

    With two classes they are those of `positive`. With more, F1, sensitivity and specificity are
    macro averages over the classes. AUC is that of `score`, the log-odds of `positive`, against
    all other classes. A metric without the images that it needs is NaN: F1 and sensitivity need a
    positive image, specificity a negative one, AUC both. A macro average needs them for every class.

    A prediction that is no class, NaN for example, is wrong. A NaN score ranks on the wrong side of
    every image of the other side.

    Args:
        label, prediction: `(N,)` class names.
        score: `(N,)`.
    """
    label, prediction, score = np.asarray(label), np.asarray(prediction), np.asarray(score)
    found = {metric: ratios(metric, label, prediction, score, classes, positive) for metric in METRICS}
    return {metric: float(np.mean([from_ratio(metric, one.value) for one in ones])) for metric, ones in found.items()}


def ratios(
    metric: str,
    label: Rows,
    prediction: Rows,
    score: Rows,
    classes: Sequence[str],
    positive: str,
    model: Rows | None = None,
) -> list[Ratio]:
    """The ratios whose mean, each through `from_ratio`, is the metric: one, or one per class of a macro average.

    Args:
        metric: one of `METRICS`.
        model: `(N,)`, which model gave the score; AUC compares only scores of one model.
    """
    if metric == "accuracy":
        return [_share(label == prediction, np.ones(len(label), dtype=bool))]
    if metric == "auc":
        return [_ranked(label == positive, score, np.zeros(len(label)) if model is None else model)]
    counted = [positive] if len(classes) == 2 else classes
    return [_of_class(metric, name, label, prediction, len(classes) == 2) for name in counted]


def from_ratio(metric: str, value: Value) -> Value:
    """The metric that belongs to a ratio: F1 is `2 J / (1 + J)` of the Jaccard index J, the others are the ratio."""
    return 2 * value / (1 + value) if metric == "f1" else value


def _of_class(metric: str, name: str, label: Rows, prediction: Rows, binary: bool) -> Ratio:
    truth, right = label == name, label == prediction
    if metric == "sensitivity":
        return _share(right, truth)
    false = ~truth & (~right if binary else prediction == name)
    if metric == "specificity":
        return _share(~false, ~truth)
    return _share(truth & right, truth | false)._replace(sides=(truth,))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Ratio:
    return Ratio((part & whole).astype(float), whole.astype(float), (whole,))


def _ranked(is_positive: NDArray[np.bool_], score: Rows, model: Rows) -> Ratio:
    """Of each image, the images of the other side that it is compared with, and those that it is ranked rightly to."""
    rank = _codes(is_positive, score.astype(float))
    right, pairs = np.zeros(len(rank)), np.zeros(len(rank))
    for one in np.unique(model):
        for side in (is_positive, ~is_positive):
            own, others = (model == one) & side, (model == one) & ~side
            both = rankdata(np.concatenate([rank[own], rank[others]]))[: own.sum()]
            below = both - rankdata(rank[own])
            right[own] = below if side is is_positive else others.sum() - below
            pairs[own] = others.sum()
    compared = pairs > 0
    return Ratio(right, pairs, (compared & is_positive, compared & ~is_positive))


def _codes(is_positive: NDArray[np.bool_], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """The order of the scores as integers, NaN below all others for a positive image and above them for a negative."""
    values, code = np.unique(score, return_inverse=True)
    return np.where(np.isnan(score), np.where(is_positive, -1, len(values)), code)


def balanced_accuracy(label: NDArray[np.int64], prediction: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur in `label`: 1/K for a constant prediction."""
    return float(np.mean([np.mean(prediction[label == k] == k) for k in np.unique(label)]))


def youden_threshold(is_positive: ArrayLike, score: ArrayLike) -> float:
    """The score from which on to call positive so that sensitivity + specificity is largest.

    It lies half-way between two neighbouring scores; among equals the one nearest to 0 wins. Scores
    that are not finite do not count: no threshold changes their prediction. 0 where only one class
    is left.

    Source: Youden 1950.
    """
    scores = np.asarray(score, dtype=float)
    finite = np.isfinite(scores)
    truth, scores = np.asarray(is_positive, dtype=bool)[finite], scores[finite]
    if truth.all() or not truth.any():
        return 0.0
    false_rate, true_rate, cuts = roc_curve(truth, scores, drop_intermediate=False)
    gain = true_rate - false_rate
    candidates = [_below(cut, scores) for cut in cuts[gain >= gain.max() - 1e-12]]
    return float(min(candidates, key=abs))


def _below(cut: float, score: NDArray[np.float64]) -> float:
    """Half-way from `cut`, a score or infinity, down to the next lower score."""
    lower = score[score < cut]
    if not np.isfinite(cut):
        return float(score.max()) + 1.0
    return float(cut + lower.max()) / 2 if len(lower) else float(cut) - 1.0
