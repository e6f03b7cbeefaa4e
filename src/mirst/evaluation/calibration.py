"""How well probabilities, sets of classes and abstention do on labelled images."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mirst.evaluation.intervals import Interval, interval

Floats = NDArray[np.float64]
BINS = 10
RESAMPLES = 1000


@dataclass(frozen=True)
class RiskCoverage:
    """The error among the images that a model keeps, if it abstains from those of the lowest confidence first.

    Source: Geifman and El-Yaniv 2017.

    >>> curve = RiskCoverage.of([0.9, 0.8, 0.6, 0.7], [False, False, True, False])
    >>> curve.risk.tolist(), curve.area
    ([0.0, 0.0, 0.0, 0.25], 0.0625)
    """

    kept: Floats
    """`(N,)`: shares of the images that are kept, 1/N to 1."""
    risk: Floats
    """`(N,)`: the share of misclassified images among the kept ones."""

    @classmethod
    def of(cls, confidence: ArrayLike, is_wrong: ArrayLike) -> "RiskCoverage":
        """The curve of images with a confidence and whether they are misclassified, each `(N,)`.

        Images of equal confidence have their errors spread evenly, so their order does not matter. An image whose
        confidence is not finite is left out of the kept images first.
        """
        values = np.asarray(confidence, dtype=float)
        order = np.argsort(-np.where(np.isfinite(values), values, -np.inf), kind="stable")
        values, wrong = np.where(np.isfinite(values), values, -np.inf)[order], np.asarray(is_wrong, dtype=float)[order]
        count = np.arange(1, len(values) + 1)
        is_end = np.append(values[1:] != values[:-1], True)
        errors = np.interp(count, np.append(0, count[is_end]), np.append(0, np.cumsum(wrong)[is_end]))
        return cls(count / len(values), errors / count)

    @property
    def area(self) -> float:
        """The mean of the risk over all shares, in [0, 1]; lower is better."""
        return float(self.risk.mean())

    def at(self, share: float) -> float:
        """The risk when at least `share` of the images is kept, in (0, 1]."""
        return float(self.risk[np.searchsorted(self.kept, share - 1e-12)])


def bin_of(probability: ArrayLike) -> NDArray[np.int64]:
    """Which of `BINS` bins of equal numbers of images each probability is in, `(N,)`, the lowest first.

    Equal probabilities are in the same bin, so bins may be larger or empty.

    >>> np.bincount(bin_of(np.arange(100) / 100)).tolist()
    [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    """
    values = np.asarray(probability, dtype=float)
    below = np.searchsorted(np.sort(values), values, "left")
    return np.asarray(below * BINS // len(values), dtype=np.int64)


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, groups: Iterable[object]) -> Interval:
    """The expected calibration error with its 95 % interval over groups.

    For each class, the images are divided by its probability as in `bin_of`; the error is the mean over the images of
    |share of the class - mean probability| of their bin, and then over the classes. With two classes both have the
    same error. The interval is the basic bootstrap interval over resampled groups, with the bins of the sample: the
    error of a finite sample is too large, and that of a resample is larger again by about as much. It starts at 0 if
    the error is not above what resampling alone gives where share and probability are equal in every bin.

    Source: Naeini et al. 2015, with equal numbers of images as Nguyen and O'Connor 2015; for each class as Kull et al.
    2019.

    Args:
        probabilities: `(N, K)`.
        labels: `(N,)` integers in 0 to K - 1.
        groups: `(N,)`.

    >>> calibration_error([[0.5, 0.5]] * 4, [0, 1, 0, 1], groups=range(4)).value
    0.0
    """
    values, truth = np.asarray(probabilities, dtype=float), np.asarray(labels)
    classes = range(1, 2) if values.shape[1] == 2 else range(values.shape[1])
    number = pd.factorize(pd.Series(list(groups)))[0]
    gaps = np.concatenate([_gaps(values[:, k], truth == k, number) for k in classes], 1)
    sizes = np.bincount(number)
    value = float(np.abs(gaps.sum(0)).sum() / sizes.sum() / len(classes))
    drawn = _resamples(len(sizes))
    resampled, images = drawn @ gaps, (drawn @ sizes)[:, None]
    expected = images * gaps.sum(0) / sizes.sum()
    again, by_chance = (np.abs(part / images).sum(1) / len(classes) for part in (resampled, resampled - expected))
    low, high = (2 * value - float(np.quantile(again, level)) for level in (0.975, 0.025))
    is_zero = value <= np.quantile(by_chance, 0.95)
    return Interval(value, 0.0 if is_zero else min(max(low, 0.0), value), min(max(high, value), 1.0))


@lru_cache(maxsize=1)
def _resamples(groups: int) -> Floats:
    """How often each resample contains each group, `(RESAMPLES, groups)`."""
    draws = np.random.default_rng(0).integers(groups, size=(RESAMPLES, groups))
    return np.stack([np.bincount(draw, minlength=groups) for draw in draws]).astype(float)


def _gaps(probability: Floats, is_class: NDArray[np.bool_], group: NDArray[np.int64]) -> Floats:
    """Sums of (is of the class - probability) by group and bin, `(groups, BINS)`."""
    sums = np.zeros((group.max() + 1, BINS))
    np.add.at(sums, (group, bin_of(probability)), is_class - probability)
    return sums


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Half the mean over the images of the squared differences to the true class, summed over the classes, in [0, 1].

    With two classes it is the mean squared difference of the probability of either class.

    >>> brier_score([[0.5, 0.5], [0.0, 1.0]], [0, 1])
    0.125
    """
    values = np.asarray(probabilities, dtype=float)
    return float(((values - np.eye(values.shape[1])[np.asarray(labels)]) ** 2).sum(1).mean() / 2)


def coverage_interval(is_covered: ArrayLike, groups: Iterable[object]) -> Interval:
    """The share of images whose set contains the true class, with its 95 % interval over groups.

    The interval is that of `mirst.evaluation.interval` for the accuracy. NaN without an image.

    >>> str(coverage_interval([True] * 18 + [False] * 2, groups=range(20)))
    '0.900 [0.683, 0.988]'
    """
    covered = np.asarray(is_covered, dtype=bool)
    if not len(covered):
        return Interval(np.nan, np.nan, np.nan)
    prediction = np.where(covered, "covered", "not covered")
    rows = pd.DataFrame({"group": list(groups), "label": "covered", "prediction": prediction, "score": 0.0})
    return interval(rows, ("not covered", "covered"), "covered", "accuracy")
