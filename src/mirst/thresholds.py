"""Thresholds on the score of a model of two classes, chosen on labelled images."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def roc_curve(is_positive: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """False and true positive rates, and the cut of each: scores of at least the cut are called positive.

    The cuts are infinity and the distinct scores, in falling order. Both classes must be present, and the scores
    finite.

    >>> roc_curve([False, True, True], [0.0, 0.0, 2.0])
    (array([0., 0., 1.]), array([0. , 0.5, 1. ]), array([inf,  2.,  0.]))
    """
    truth, scores = np.asarray(is_positive, dtype=bool), np.asarray(score, dtype=float)
    cuts = np.append(np.inf, np.unique(scores)[::-1])
    negatives, positives = np.sort(scores[~truth]), np.sort(scores[truth])
    false_rate, true_rate = ((len(own) - np.searchsorted(own, cuts)) / len(own) for own in (negatives, positives))
    return false_rate, true_rate, cuts


def youden_threshold(is_positive: ArrayLike, score: ArrayLike) -> float:
    """The threshold on the score that maximises sensitivity + specificity: scores above it are called positive.

    It lies half-way between two neighbouring scores; of several best thresholds the one nearest to 0 is taken. Scores
    that are not finite are ignored: no threshold changes their prediction. 0 if only one class is left.

    Source: Youden 1950.

    >>> youden_threshold([False, False, True], [-2.0, -1.0, 3.0])
    1.0
    """
    scores = np.asarray(score, dtype=float)
    finite = np.isfinite(scores)
    truth, scores = np.asarray(is_positive, dtype=bool)[finite], scores[finite]
    if truth.all() or not truth.any():
        return 0.0
    false_rate, true_rate, cuts = roc_curve(truth, scores)
    gain = true_rate - false_rate
    candidates = [_below(cut, scores) for cut in cuts[gain >= gain.max() - 1e-12]]
    return float(min(candidates, key=abs))


def sensitivity_threshold(is_positive: ArrayLike, score: ArrayLike, wanted: float) -> float:
    """The largest threshold whose sensitivity is at least `wanted`: scores above it are called positive.

    It lies half-way between two neighbouring scores of any class, or 1 below the lowest score; so images of equal score
    are called alike, and the sensitivity may exceed `wanted`. Scores that are not finite are ignored, as in
    `youden_threshold`. 0 without a positive image.

    Args:
        wanted: above 0 and at most 1.

    >>> sensitivity_threshold([True, True, False, True], [-2.0, 1.0, 2.0, 4.0], 0.6)
    -0.5
    """
    scores = np.asarray(score, dtype=float)
    finite = np.isfinite(scores)
    truth, scores = np.asarray(is_positive, dtype=bool)[finite], scores[finite]
    if not truth.any():
        return 0.0
    own = np.sort(scores[truth])[::-1]
    detected = np.arange(1, len(own) + 1) / len(own)
    return _below(own[detected >= wanted][0], scores)


def specificity_threshold(is_positive: ArrayLike, score: ArrayLike, wanted: float) -> float:
    """The smallest threshold whose specificity is at least `wanted`: `sensitivity_threshold` with the classes swapped.

    It lies half-way between two neighbouring scores of any class, or 1 above the highest score. 0 without a negative
    image.

    Args:
        wanted: above 0 and at most 1.

    >>> specificity_threshold([False, False, True], [-2.0, -1.0, 3.0], 0.5)
    -1.5
    """
    swapped = sensitivity_threshold(~np.asarray(is_positive, dtype=bool), -np.asarray(score, dtype=float), wanted)
    return 0.0 - swapped


def _below(cut: float, score: Floats) -> float:
    """Half-way between `cut`, a score or infinity, and the next lower score."""
    lower = score[score < cut]
    if not np.isfinite(cut):
        return float(score.max()) + 1.0
    return float(cut + lower.max()) / 2 if len(lower) else float(cut) - 1.0
