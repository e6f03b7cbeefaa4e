"""Classification metrics from labels, predictions and scores: one table, `METRICS`, that everything else reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirst.errors import MirstError, suggestion

Rows = NDArray[Any]
"""`(N,)`, one entry per image."""
Mask = NDArray[np.bool_]
"""`(N,)`, which images."""
ANY_WRONG = "(any wrong class)"
"""A prediction that may be any wrong class. It counts against every class, so that metrics are lower bounds."""


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
    positive: str
    worst_score: Rows | None = None
    """The worst score under attack, as `mirst.evaluation.worst_score` defines it; `None` if it was not measured."""

    @classmethod
    def of(
        cls,
        label: ArrayLike,
        prediction: ArrayLike,
        score: ArrayLike,
        classes: Sequence[str],
        positive: str,
        model: ArrayLike | None = None,
        worst_score: ArrayLike | None = None,
    ) -> "MetricInput":
        """From anything like an array; without `model` all scores are of one model.

        `worst_score` counts as not measured if it is NaN for any image.
        """
        label = np.asarray(label)
        model = np.zeros(len(label)) if model is None else np.asarray(model)
        worst = None if worst_score is None else np.asarray(worst_score, dtype=float)
        worst = None if worst is None or np.isnan(worst).any() else worst
        return cls(label, np.asarray(prediction), np.asarray(score), model, classes, positive, worst)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric in [0, 1]: the mean of one or more ratios, each passed through `from_ratio`.

    >>> METRICS["sensitivity"].value(MetricInput.of(["b", "b"], ["a", "b"], [-1.0, 1.0], ("a", "b"), "b"))
    0.5
    """

    name: str
    """Its column in every table on disk."""
    title: str
    """Its heading for readers."""
    hub: str
    """Its name in the metadata of model hubs."""
    computed_from: Literal["predictions", "scores"]
    ratios: Callable[[MetricInput], list[Ratio]]
    from_ratio: Callable[[Any], Any] = lambda value: value
    """Monotone: from a ratio, or the end of its interval, to the metric."""
    headline: bool = False
    """Whether a report gives its intervals, bar chart and differences between studies too, beside its table."""
    drawn: bool = False
    """Whether it is drawn over eps."""

    def value(self, given: MetricInput) -> float:
        """NaN where one of the ratios is undefined."""
        return float(np.mean([self.from_ratio(ratio.value) for ratio in self.ratios(given)]))


def classification_metrics(
    label: ArrayLike,
    prediction: ArrayLike,
    score: ArrayLike,
    classes: Sequence[str],
    positive: str,
    worst_score: ArrayLike | None = None,
) -> dict[str, float]:
    """Every metric of `METRICS` by name, each in [0, 1], and `AUC_ATTACKED` where `worst_score` was measured.

    With two classes they are those of `positive`. With more, F1, sensitivity and specificity are
    macro averages over the classes. AUC is that of `score`, the log-odds of `positive`, against
    all other classes. A metric without the images that it needs is NaN: F1 and sensitivity need a
    positive image, specificity a negative one, AUC both. A macro average needs them for every class.

    A prediction that is no class, NaN for example, is wrong. A NaN score ranks on the wrong side of
    every image of the other side.

    Args:
        label, prediction: `(N,)` class names.
        score: `(N,)`.
        worst_score: `(N,)`, the worst score under attack; `None`, or NaN for any image, if it was not measured.

    >>> values = classification_metrics(["a", "b", "b"], ["a", "b", "a"], [-1.0, 2.0, 1.0], ("a", "b"), "b")
    >>> values["sensitivity"], values["specificity"], values["auc"]
    (0.5, 1.0, 1.0)
    """
    given = MetricInput.of(label, prediction, score, classes, positive, worst_score=worst_score)
    metrics = METRICS.values() if given.worst_score is None else EVERY_METRIC.values()
    return {metric.name: metric.value(given) for metric in metrics}


def metric_named(name: str) -> Metric:
    """The entry of `EVERY_METRIC`, or `PRECISION`.

    Raises:
        MirstError: there is none of that name.

    >>> metric_named("auc").title
    'AUC'
    """
    known = EVERY_METRIC | {PRECISION.name: PRECISION}
    if name not in known:
        raise MirstError(f"unknown metric {name}{suggestion(name, list(known))}")
    return known[name]


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


def _jaccard(truth: Mask, predicted: Mask) -> Ratio:
    return _share(predicted & truth, truth | predicted)._replace(sides=(truth,))


def _share(part: Mask, whole: Mask) -> Ratio:
    return Ratio((part & whole).astype(float), whole.astype(float), (whole,))


def _ranked(given: MetricInput) -> list[Ratio]:
    return _ranked_by(given.score, given)


def _ranked_under_attack(given: MetricInput) -> list[Ratio]:
    if given.worst_score is None:
        nothing = np.zeros(len(given.label))
        return [Ratio(nothing, nothing, (nothing > 0,), pairs=True)]
    return _ranked_by(given.worst_score, given)


def _ranked_by(score: Rows, given: MetricInput) -> list[Ratio]:
    """For each image, how many images of the other side it is compared with, and how many it is ranked correctly to."""
    is_positive, model = given.label == given.positive, given.model
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
    return [Ratio(right, pairs, (compared & is_positive, compared & ~is_positive), pairs=True)]


def _codes(is_positive: Mask, score: NDArray[np.float64]) -> NDArray[np.int64]:
    """The order of the scores as integers, NaN below all others for a positive image and above them for a negative."""
    values, code = np.unique(score, return_inverse=True)
    return np.where(np.isnan(score), np.where(is_positive, -1, len(values)), code)


_TABLE = (
    Metric(
        name="f1",
        title="F1 score",
        hub="f1",
        computed_from="predictions",
        ratios=per_class(_jaccard),
        from_ratio=lambda jaccard: 2 * jaccard / (1 + jaccard),
        headline=True,
        drawn=True,
    ),
    Metric(
        name="sensitivity",
        title="Sensitivity",
        hub="recall",
        computed_from="predictions",
        ratios=per_class(lambda truth, predicted: _share(predicted, truth)),
        headline=True,
    ),
    Metric(
        name="specificity",
        title="Specificity",
        hub="specificity",
        computed_from="predictions",
        ratios=per_class(lambda truth, predicted: _share(~predicted, ~truth)),
    ),
    Metric(name="auc", title="AUC", hub="roc_auc", computed_from="scores", ratios=_ranked),
    Metric(
        name="accuracy",
        title="Accuracy",
        hub="accuracy",
        computed_from="predictions",
        ratios=lambda given: [_share(given.label == given.prediction, np.ones(len(given.label), dtype=bool))],
        drawn=True,
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}
"""By name, in the order of every table. A new metric is one entry here."""
AUC_ATTACKED = Metric(
    name="auc_attacked",
    title="AUC under attack",
    hub="roc_auc_attacked",
    computed_from="scores",
    ratios=_ranked_under_attack,
)
"""The AUC of the worst scores, for rows of an evaluation with `auc=True`. Tables without such rows do not have it."""
PRECISION = Metric(
    name="precision",
    title="Precision",
    hub="precision",
    computed_from="predictions",
    ratios=per_class(lambda truth, predicted: _share(truth, predicted)),
)
"""For tables of more than two classes; undefined for a class that is never predicted."""
EVERY_METRIC = METRICS | {AUC_ATTACKED.name: AUC_ATTACKED}


def balanced_accuracy(label: NDArray[np.int64], prediction: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur in `label`: 1/K for a constant prediction.

    >>> balanced_accuracy(np.array([0, 0, 1]), np.array([0, 0, 0]))
    0.5
    """
    return float(np.mean([np.mean(prediction[label == k] == k) for k in np.unique(label)]))


def quadratic_kappa(label: ArrayLike, prediction: ArrayLike, classes: Sequence[str]) -> float:
    """Cohen's kappa of ordered classes: a confusion costs the square of the distance of the two classes (Cohen 1968).

    1 is perfect agreement, 0 that of chance, at most 1; NaN where all labels and predictions are one class. A
    prediction that is no class counts as the class that is farthest from the label.

    Args:
        label, prediction: `(N,)` class names.
        classes: all of them, in their order.

    >>> quadratic_kappa(["0", "1", "2"], ["0", "1", "1"], ("0", "1", "2"))
    0.6666666666666667
    """
    grade = {name: number for number, name in enumerate(classes)}
    truth, last = np.array([grade[name] for name in np.asarray(label)]), len(classes) - 1
    farthest = np.where(2 * truth < last, last, 0)
    given = [grade.get(name, far) for name, far in zip(np.asarray(prediction), farthest, strict=True)]
    predicted = np.array(given)
    by_chance = ((truth[:, None] - predicted) ** 2).mean()
    return float(1 - ((truth - predicted) ** 2).mean() / by_chance) if by_chance else float("nan")


def auc(is_positive: ArrayLike, score: ArrayLike) -> float:
    """The share of pairs of a positive and a negative image that `score` ranks correctly; a tie counts half.

    NaN without a positive or without a negative image.

    >>> auc([False, False, True], [-2.0, 1.0, 1.0])
    0.75
    """
    label = np.where(np.asarray(is_positive, dtype=bool), "positive", "negative")
    return METRICS["auc"].value(MetricInput.of(label, label, score, ("negative", "positive"), "positive"))
