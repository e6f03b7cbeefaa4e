"""Classification metrics from labels, predictions and scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    multilabel_confusion_matrix,
    recall_score,
    roc_auc_score,
    roc_curve,
)

METRICS = ("f1", "sensitivity", "specificity", "auc", "accuracy")


def classification_metrics(
    label: ArrayLike, prediction: ArrayLike, score: ArrayLike, classes: Sequence[str], positive: str
) -> dict[str, float]:
    """F1, sensitivity, specificity, AUC and accuracy, each in [0, 1].

    With two classes they are those of `positive`; with more, F1, sensitivity and specificity are
    macro averages over the classes. AUC is that of `score`, the log-odds of `positive`, against
    all other classes. What divides by zero is 0 (F1 without true positives, say); AUC is NaN where
    only one side of it occurs.

    Args:
        label, prediction: `(N,)` class names.
        score: `(N,)`.
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    counted = [positive] if len(classes) == 2 else list(classes)
    matrix = multilabel_confusion_matrix(label, prediction, labels=counted)
    negatives = matrix[:, 0, :].sum(1)
    specificity = np.divide(matrix[:, 0, 0], negatives, out=np.zeros(len(counted)), where=negatives > 0)
    is_positive = label == positive
    both = is_positive.any() and not is_positive.all()
    return {
        "f1": float(f1_score(label, prediction, labels=counted, average="macro", zero_division=0)),
        "sensitivity": float(recall_score(label, prediction, labels=counted, average="macro", zero_division=0)),
        "specificity": float(specificity.mean()),
        "auc": float(roc_auc_score(is_positive, score)) if both else float("nan"),
        "accuracy": float(accuracy_score(label, prediction)),
    }


def balanced_accuracy(label: NDArray[np.int64], prediction: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur in `label`: 1/K for a constant prediction."""
    return float(np.mean([np.mean(prediction[label == k] == k) for k in np.unique(label)]))


def youden_threshold(is_positive: ArrayLike, score: ArrayLike) -> float:
    """The score from which on to call positive so that sensitivity + specificity is largest.

    It lies half-way between two neighbouring scores; among equals the one nearest to 0 wins. 0
    where only one class occurs.

    Source: Youden 1950.
    """
    is_positive, score = np.asarray(is_positive, dtype=bool), np.asarray(score, dtype=float)
    if is_positive.all() or not is_positive.any():
        return 0.0
    false_rate, true_rate, cuts = roc_curve(is_positive, score, drop_intermediate=False)
    gain = true_rate - false_rate
    candidates = [_below(cut, score) for cut in cuts[gain >= gain.max() - 1e-12]]
    return float(min(candidates, key=abs))


def _below(cut: float, score: NDArray[np.float64]) -> float:
    """Half-way from `cut`, a score or infinity, down to the next lower score."""
    lower = score[score < cut]
    if not np.isfinite(cut):
        return float(score.max()) + 1.0
    return float(cut + lower.max()) / 2 if len(lower) else float(cut) - 1.0
