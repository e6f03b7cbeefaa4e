"""Classification metrics from labels, predictions and scores: one table, `METRICS`, that everything else reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mirst.errors import MirstError, suggestion
from mirst.metric_ratios import (
    ANY_WRONG,
    CLASS_SCORE,
    MetricInput,
    Ratio,
    jaccard,
    named_class_scores,
    per_class,
    ranked,
    ranked_of_classes,
    ranked_under_attack,
    share,
)

__all__ = ["ANY_WRONG", "CLASS_SCORE", "MetricInput", "Ratio", "named_class_scores"]


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
    """Whether a report gives its intervals and differences between studies too, beside its table."""
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
    positive: str | None,
    worst_score: ArrayLike | None = None,
) -> dict[str, float]:
    """The metrics of `study_metrics` by name, each in [0, 1], and `AUC_ATTACKED` where `worst_score` was measured.

    With two classes they are those of `positive`. With more, F1, sensitivity and specificity are
    macro averages over the classes. AUC is that of `score`, the log-odds of `positive`, against
    all other classes. A metric without the images that it needs is NaN: F1 and sensitivity need a
    positive image, specificity a negative one, AUC both. A macro average needs them for every class.

    A prediction that is no class, NaN for example, is wrong. A NaN score ranks on the wrong side of
    every image of the other side.

    Args:
        label, prediction: `(N,)` class names.
        score: `(N,)`.
        positive: `None` with more than two classes of which none is special.
        worst_score: `(N,)`, the worst score under attack; `None`, or NaN for any image, if it was not measured.

    >>> values = classification_metrics(["a", "b", "b"], ["a", "b", "a"], [-1.0, 2.0, 1.0], ("a", "b"), "b")
    >>> values["sensitivity"], values["specificity"], values["auc"]
    (0.5, 1.0, 1.0)
    """
    return _values(MetricInput.of(label, prediction, score, classes, positive, worst_score=worst_score))


def row_metrics(rows: pd.DataFrame, classes: Sequence[str], positive: str | None) -> dict[str, float]:
    """`classification_metrics` of outcome rows of one model under one attack, as `MetricInput.of_rows` reads them.

    >>> row_metrics(pd.DataFrame({"label": ["b"], "prediction": ["b"], "score": [0.5]}), ("a", "b"), "b")["f1"]
    1.0
    """
    return _values(MetricInput.of_rows(rows, classes, positive))


def _values(given: MetricInput) -> dict[str, float]:
    metrics = study_metrics(given.positive)
    if given.positive is not None and given.worst_score is not None:
        metrics = metrics | {AUC_ATTACKED.name: AUC_ATTACKED}
    return {metric.name: metric.value(given) for metric in metrics.values()}


def study_metrics(positive: str | None) -> dict[str, "Metric"]:
    """The metrics by name, in the order of every table: `METRICS`, or those that need no positive class.

    >>> list(study_metrics(None))
    ['f1', 'recall', 'auc_macro', 'accuracy']
    """
    return WITHOUT_POSITIVE if positive is None else METRICS


def class_metrics(positive: str | None) -> list[str]:
    """The names of `study_metrics`, without accuracy, which hides rare classes.

    >>> class_metrics("malignant")
    ['f1', 'sensitivity', 'specificity', 'auc']
    """
    return [name for name in study_metrics(positive) if name != "accuracy"]


def metric_named(name: str) -> Metric:
    """The entry of `EVERY_METRIC` or `WITHOUT_POSITIVE`, or `PRECISION`.

    Raises:
        MirstError: there is none of that name.

    >>> metric_named("auc").title
    'AUC'
    """
    known = EVERY_METRIC | WITHOUT_POSITIVE | {PRECISION.name: PRECISION}
    if name not in known:
        raise MirstError(f"unknown metric {name}{suggestion(name, list(known))}")
    return known[name]


_TABLE = (
    Metric(
        name="f1",
        title="F1 score",
        hub="f1",
        computed_from="predictions",
        ratios=per_class(jaccard),
        from_ratio=lambda jaccard: 2 * jaccard / (1 + jaccard),
        headline=True,
        drawn=True,
    ),
    Metric(
        name="sensitivity",
        title="Sensitivity",
        hub="recall",
        computed_from="predictions",
        ratios=per_class(lambda truth, predicted: share(predicted, truth)),
        headline=True,
    ),
    Metric(
        name="specificity",
        title="Specificity",
        hub="specificity",
        computed_from="predictions",
        ratios=per_class(lambda truth, predicted: share(~predicted, ~truth)),
    ),
    Metric(name="auc", title="AUC", hub="roc_auc", computed_from="scores", ratios=ranked),
    Metric(
        name="accuracy",
        title="Accuracy",
        hub="accuracy",
        computed_from="predictions",
        ratios=lambda given: [share(given.label == given.prediction, np.ones(len(given.label), dtype=bool))],
        drawn=True,
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}
"""By name, in the order of every table. A new metric is one entry here."""
RECALL = Metric(
    name="recall",
    title="Recall",
    hub="recall",
    computed_from="predictions",
    ratios=METRICS["sensitivity"].ratios,
    headline=True,
)
"""Sensitivity where no class is the positive one: the mean over the classes."""
AUC_MACRO = Metric(
    name="auc_macro", title="AUC, one against the rest", hub="roc_auc", computed_from="scores", ratios=ranked_of_classes
)
"""The mean over the classes of the AUC of each against all others."""
WITHOUT_POSITIVE: dict[str, Metric] = {
    metric.name: metric for metric in (METRICS["f1"], RECALL, AUC_MACRO, METRICS["accuracy"])
}
"""The metrics of more than two classes of which none is the positive one: macro averages, and accuracy."""
AUC_ATTACKED = Metric(
    name="auc_attacked",
    title="AUC under attack",
    hub="roc_auc_attacked",
    computed_from="scores",
    ratios=ranked_under_attack,
)
"""The AUC of the worst scores, for rows of an evaluation with `auc=True`. Tables without such rows do not have it."""
PRECISION = Metric(
    name="precision",
    title="Precision",
    hub="precision",
    computed_from="predictions",
    ratios=per_class(lambda truth, predicted: share(truth, predicted)),
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
