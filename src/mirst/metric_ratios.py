"""The sums over images that classification metrics are ratios of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[Any]
"""`(N,)`, one entry per image."""
Mask = NDArray[np.bool_]
"""`(N,)`, which images."""
ANY_WRONG = "(any wrong class)"
"""A prediction that may be any wrong class. It counts against every class, so that metrics are lower bounds."""
CLASS_SCORE = "score:"
"""Start of the columns of outcome rows of more than two classes: the log-odds of the class that follows."""


class Ratio(NamedTuple):
    """One sum over the images divided by another.

    >>> yes, no = True, False
    >>> Ratio(np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0]), (np.array([yes, yes, no]),)).value
    0.5
    """

    part: NDArray[np.float64]
    whole: NDArray[np.float64]
    sides: tuple[Mask, ...]
    """The images without which the ratio is undefined, such as the positives: each side needs one."""
    pairs: bool = False
    """Whether it counts pairs of images, one of each side, and not images."""

    @property
    def value(self) -> float:
        """In [0, 1]; NaN where the ratio is undefined."""
        if not all(side.any() for side in self.sides):
            return float("nan")
        return float(self.part.sum() / self.whole.sum())


@dataclass(frozen=True)
class MetricInput:
    """What a metric is computed from, each array `(N,)`.

    >>> MetricInput.of(["a", "b"], ["a", "a"], [0.5, -0.5], classes=("a", "b"), positive="b").label.shape
    (2,)
    """

    label: Rows
    prediction: Rows
    """Class names. A prediction that is no class, NaN for example, is wrong."""
    score: Rows
    """Log-odds of `positive`. A NaN score ranks on the wrong side of every image of the other side."""
    model: Rows
    """Which model gave the score; only scores of one model are compared."""
    classes: Sequence[str]
    positive: str | None
    """`None` with more than two classes of which none is special."""
    worst_score: Rows | None = None
    """The worst score under attack, as `mirst.evaluation.worst_score` defines it; `None` if it was not measured."""
    class_scores: NDArray[np.float64] | None = None
    """`(N, K)`: the log-odds of each class against all others; `None` if they were not measured."""

    @classmethod
    def of(
        cls,
        label: ArrayLike,
        prediction: ArrayLike,
        score: ArrayLike,
        classes: Sequence[str],
        positive: str | None,
        model: ArrayLike | None = None,
        worst_score: ArrayLike | None = None,
        class_scores: ArrayLike | None = None,
    ) -> "MetricInput":
        """From anything like an array; without `model` all scores are of one model.

        `worst_score` and `class_scores` count as not measured if one is NaN for any image.
        """
        label = np.asarray(label)
        model = np.zeros(len(label)) if model is None else np.asarray(model)
        measured = (_whole(worst_score), _whole(class_scores))
        return cls(label, np.asarray(prediction), np.asarray(score), model, classes, positive, *measured)

    @classmethod
    def of_rows(
        cls, rows: pd.DataFrame, classes: Sequence[str], positive: str | None, model: ArrayLike | None = None
    ) -> "MetricInput":
        """From outcome rows by class names: `label, prediction, score`, with `worst_score` and a column per class
        (`CLASS_SCORE`) where they have them.

        >>> rows = pd.DataFrame({"label": ["a"], "prediction": ["b"], "score": [0.5]})
        >>> MetricInput.of_rows(rows, ("a", "b"), "b").class_scores is None
        True
        """
        columns = [CLASS_SCORE + name for name in classes]
        scores = rows[columns].to_numpy() if set(columns) <= set(rows) else None
        label, prediction, score = (rows[name].to_numpy() for name in ("label", "prediction", "score"))
        return cls.of(label, prediction, score, classes, positive, model, rows.get("worst_score"), scores)


def named_class_scores(rows: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Outcome rows with the columns of class scores named by class and not by index.

    >>> named_class_scores(pd.DataFrame({"score:0": [0.5]}), ("RBC", "WBC", "Platelets")).columns.tolist()
    ['score:RBC']
    """
    return rows.rename(columns={f"{CLASS_SCORE}{k}": CLASS_SCORE + name for k, name in enumerate(classes)})


def _whole(scores: ArrayLike | None) -> NDArray[np.float64] | None:
    found = None if scores is None else np.asarray(scores, dtype=float)
    return None if found is None or np.isnan(found).any() else found


def per_class(ratio: Callable[[Mask, Mask], Ratio]) -> Callable[[MetricInput], list[Ratio]]:
    """The ratio of the positive class, or with more than two classes one per class.

    Args:
        ratio: from which images are of the class, and which are predicted to be.
    """

    def ratios(given: MetricInput) -> list[Ratio]:
        label, prediction = given.label, given.prediction
        if len(given.classes) == 2:
            truth = label == given.positive
            return [ratio(truth, truth == (label == prediction))]  # a prediction that is no class is wrong
        unknown = prediction == ANY_WRONG
        return [ratio(label == name, (prediction == name) | (unknown & (label != name))) for name in given.classes]

    return ratios


def jaccard(truth: Mask, predicted: Mask) -> Ratio:
    """Images of the class that are predicted to be, among those of which either holds."""
    return share(predicted & truth, truth | predicted)._replace(sides=(truth,))


def share(part: Mask, whole: Mask) -> Ratio:
    """The images `part` among the images `whole`."""
    return Ratio((part & whole).astype(float), whole.astype(float), (whole,))


def ranked(given: MetricInput) -> list[Ratio]:
    """Pairs of a positive and another image, ranked by the score."""
    return [_pairs(given.score, given.label == given.positive, given.model)]


def ranked_of_classes(given: MetricInput) -> list[Ratio]:
    """For each class, pairs of an image of it and another image, ranked by the log-odds of the class."""
    if given.class_scores is None:
        return [_unmeasured(given) for _ in given.classes]
    return [
        _pairs(score, given.label == name, given.model)
        for name, score in zip(given.classes, given.class_scores.T, strict=True)
    ]


def ranked_under_attack(given: MetricInput) -> list[Ratio]:
    """As `ranked`, by the worst score."""
    if given.worst_score is None:
        return [_unmeasured(given)]
    return [_pairs(given.worst_score, given.label == given.positive, given.model)]


def _unmeasured(given: MetricInput) -> Ratio:
    nothing = np.zeros(len(given.label))
    return Ratio(nothing, nothing, (nothing > 0,), pairs=True)


def _pairs(score: Rows, is_positive: Mask, model: Rows) -> Ratio:
    """For each image, how many images of the other side it is compared with, and how many it is ranked correctly to."""
    rank = _codes(is_positive, score.astype(float))
    right, pairs = np.zeros(len(rank)), np.zeros(len(rank))
    for number in np.unique(model):
        for side in (is_positive, ~is_positive):
            own, others = (model == number) & side, (model == number) & ~side
            ordered = np.sort(rank[others])
            below = (np.searchsorted(ordered, rank[own], "left") + np.searchsorted(ordered, rank[own], "right")) / 2
            right[own] = below if side is is_positive else others.sum() - below
            pairs[own] = others.sum()
    compared = pairs > 0
    return Ratio(right, pairs, (compared & is_positive, compared & ~is_positive), pairs=True)


def _codes(is_positive: Mask, score: NDArray[np.float64]) -> NDArray[np.int64]:
    """The order of the scores as integers, NaN below all others for a positive image and above them for a negative."""
    values, code = np.unique(score, return_inverse=True)
    return np.where(np.isnan(score), np.where(is_positive, -1, len(values)), code)
