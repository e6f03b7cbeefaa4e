"""95 % intervals of metrics that respect groups: images of one lesion are no independent draws.

A metric is a ratio of sums over the groups. Its variance between the groups gives an effective number of
images, and the interval is Clopper and Pearson's of that number (Korn and Graubard 1998). It needs no
resampling, lies within [0, 1] and is never of zero width. `docs/results/intervals.md` has its coverage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtri, stdtrit

from mirst.errors import MirstError
from mirst.metrics import Ratio, from_ratio, ratios

Metric = Literal["f1", "sensitivity", "specificity", "auc", "accuracy"]
LEVEL = 0.05
"""One minus the coverage."""
SMALLEST_P, LARGEST_P = 1e-12, 0.999


@dataclass(frozen=True)
class Interval:
    """`value` and its 95 % interval; all three are NaN where the metric is undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return self._shown(".3f")

    def _shown(self, form: str) -> str:
        if np.isnan(self.value):
            return "undefined"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


@dataclass(frozen=True)
class Difference(Interval):
    """`value`, its 95 % interval, and how often chance alone would give as much."""

    p: float
    """Two-sided: the level at which the interval begins to leave out 0, 1 where every level includes it."""

    def __str__(self) -> str:
        return self._shown("+.3f")


def interval(rows: pd.DataFrame, classes: Sequence[str], positive: str, metric: Metric = "f1") -> Interval:
    """The metric of the pooled rows of all folds and seeds, as `classification_metrics` defines it.

    AUC compares only scores of one model: rows that share `fold` and `seed`, where the rows have them.

    Args:
        rows: outcome rows with `group, label, prediction, score`.
    """
    parts = _parts(rows, rows["group"], classes, positive, metric)
    mean = Weighted(parts, np.full(len(parts), 1 / len(parts)))
    low, high = mean.ends(LEVEL)
    return Interval(mean.value, max(low, 0.0), min(high, 1.0))


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, classes: Sequence[str], positive: str, metric: Metric = "f1"
) -> Difference:
    """How much larger the metric is in `second` than in `first`, on the same images.

    The interval combines those of the two sides with the correlation of their groups (Zou and
    Donner 2008), and lies within [-1, 1].

    Args:
        first, second: outcome rows as for `interval`, with `source, image, seed`, one row per image
            and seed; the groups are those of `first`.

    Raises:
        MirstError: the two do not hold the same images with the same labels and seeds.
    """
    keys = ["source", "image", "seed"]
    other = first[[*keys, "group", "label"]].merge(
        second.drop(columns="group"), on=keys, suffixes=("_first", ""), validate="1:1"
    )
    if not len(other) == len(first) == len(second) or not (other["label"] == other["label_first"]).all():
        raise MirstError("a paired difference needs the same images, labels and seeds on both sides")
    ours, theirs = (
        _parts(rows, group, classes, positive, metric)
        for rows, group in ((first, first["group"]), (other, other["group"]))
    )
    gain = Weighted([*theirs, *ours], np.repeat([1 / len(theirs), -1 / len(ours)], len(ours)))
    low, high = gain.ends(LEVEL)
    return Difference(gain.value, max(low, -1.0), min(high, 1.0), gain.p())


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for being many, in the order given (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return [float(value) for value in np.minimum(corrected, 1.0)]


@dataclass(frozen=True)
class Part:
    """A ratio with what its interval needs."""

    metric: Metric
    ratio: float
    groups: int
    """Of the side that has the fewest."""
    rows: int
    fewest: float
    """Effective number of images if all images of a group were answered alike (Kish 1965)."""
    influence: NDArray[np.float64]
    """`(groups,)`: how far each group moves the ratio."""

    @property
    def value(self) -> float:
        return from_ratio(self.metric, self.ratio)

    def ends(self, level: float) -> tuple[float, float]:
        """Of the interval that misses the truth with probability `level`."""
        size = self._size(level)
        hits, misses = self.ratio * size, (1 - self.ratio) * size
        low = betaincinv(hits, misses + 1, level / 2) if hits else 0.0
        high = 1 - betaincinv(misses, hits + 1, level / 2) if misses else 1.0
        return from_ratio(self.metric, float(low)), from_ratio(self.metric, float(high))

    def _size(self, level: float) -> float:
        """Effective number of images, between `fewest` and their number."""
        free = self.groups - 1
        spread = (self.influence**2).sum()
        if not free or not spread:
            return self.fewest
        size = self.ratio * (1 - self.ratio) / (spread * self.groups / free)
        return float(max(min(size, self.rows) * (ndtri(level / 2) / stdtrit(free, level / 2)) ** 2, self.fewest))


@dataclass(frozen=True)
class Weighted:
    """A weighted sum of parts: the mean over the classes, or a difference."""

    parts: Sequence[Part]
    weights: NDArray[np.float64]

    @property
    def value(self) -> float:
        return math.fsum(self.weights * [part.value for part in self.parts])

    def ends(self, level: float) -> tuple[float, float]:
        """Of its interval, from those of the parts (MOVER, Zou and Donner 2008)."""
        if np.isnan(self.value):
            return np.nan, np.nan
        ends = np.array([part.ends(level) for part in self.parts])
        down, up = np.abs(ends.T - [part.value for part in self.parts])
        below, above = np.where(self.weights > 0, (down, up), (up, down)) * self.weights
        between = self._correlation()
        return self.value - float(np.sqrt(below @ between @ below)), self.value + float(
            np.sqrt(above @ between @ above)
        )

    def p(self) -> float:
        """Two-sided, of the sum being 0."""

        def beyond(level: float) -> float:
            low, high = self.ends(level)
            return low if self.value > 0 else -high

        if not beyond(LARGEST_P) > 0:
            return 1.0
        if beyond(SMALLEST_P) > 0:
            return SMALLEST_P
        return float(brentq(beyond, SMALLEST_P, LARGEST_P))

    def _correlation(self) -> NDArray[np.float64]:
        """Of the parts, from their groups, each with two images of its own added.

        Two models that agree on every image of a sample are not known to agree on all others: what is
        added keeps the correlation below 1 and a difference from zero width.
        """
        influence = np.array([part.influence for part in self.parts])
        products = influence @ influence.T + np.diag([2 / part.fewest**2 for part in self.parts])
        spread = np.sqrt(np.diag(products))
        return np.asarray(products / np.outer(spread, spread))


def part_of(metric: Metric, ratio: Ratio, group: NDArray[np.int64]) -> Part:
    """Sum a ratio over its groups, `(N,)` numbers from 0."""
    value = ratio.value
    if np.isnan(value):
        return Part(metric, value, groups=0, rows=0, fewest=0.0, influence=np.zeros(group.max() + 1))
    part, whole = (np.bincount(group, column) for column in (ratio.part, ratio.whole))
    # in a pair both images vary, so each moves AUC by twice its share of the two sums over all images
    influence = (part - value * whole) / whole.sum() * (2 if metric == "auc" else 1)
    rests_on = ratio.sides if metric == "auc" else (ratio.whole > 0,)
    counts = [np.bincount(group, side) for side in rests_on]
    return Part(
        metric,
        value,
        groups=min(len(np.unique(group[side])) for side in ratio.sides),
        rows=int((ratio.whole > 0).sum()),
        fewest=min(float(count.sum() ** 2 / (count**2).sum()) for count in counts),
        influence=influence,
    )


def _parts(
    rows: pd.DataFrame, group: "pd.Series[str]", classes: Sequence[str], positive: str, metric: Metric
) -> list[Part]:
    of_model = [column for column in ("fold", "seed") if column in rows and metric == "auc"]
    model = rows.groupby(of_model).ngroup().to_numpy() if of_model else None
    label, prediction, score = (rows[name].to_numpy() for name in ("label", "prediction", "score"))
    number = pd.factorize(group, use_na_sentinel=False)[0]
    found = ratios(metric, label, prediction, score, classes, positive, model)
    return [part_of(metric, one, number) for one in found]
