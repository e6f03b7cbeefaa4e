"""The ratios that metrics are means of, with the effective number of images and the correlation for their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from mirst.metrics import Metric, Ratio

LEVEL = 0.05
"""One minus the coverage."""
SMALLEST_P, LARGEST_P = 1e-12, 0.999


@dataclass(frozen=True)
class Part:
    """A ratio of a metric with what its interval needs.

    >>> from mirst.metrics import metric_named
    >>> everything = np.ones(4)
    >>> ratio = Ratio(np.array([1.0, 1.0, 1.0, 0.0]), everything, (everything > 0,))
    >>> part_of(metric_named("accuracy"), ratio, np.arange(4)).value
    0.75
    """

    metric: Metric
    ratio: float
    groups: int
    """Number of groups of the side that has the fewest."""
    rows: int
    fewest: float
    """Effective number of images if all images of a group had the same outcome (Kish 1965)."""
    influence: NDArray[np.float64]
    """`(groups,)`: how far each group moves the ratio."""

    @property
    def value(self) -> float:
        return float(self.metric.from_ratio(self.ratio))

    def ends(self, level: float) -> tuple[float, float]:
        """The ends of the interval that misses the true value with probability `level`."""
        size = self._size(level)
        hits, misses = self.ratio * size, (1 - self.ratio) * size
        low = scipy.special.betaincinv(hits, misses + 1, level / 2) if hits else 0.0
        high = 1 - scipy.special.betaincinv(misses, hits + 1, level / 2) if misses else 1.0
        return self.metric.from_ratio(float(low)), self.metric.from_ratio(float(high))

    def _size(self, level: float) -> float:
        """Effective number of images, between `fewest` and their number."""
        free = self.groups - 1
        spread = (self.influence**2).sum()
        if not free or not spread:
            return self.fewest
        size = self.ratio * (1 - self.ratio) / (spread * self.groups / free)
        quantiles = scipy.special.ndtri(level / 2) / scipy.special.stdtrit(free, level / 2)
        return float(max(min(size, self.rows) * quantiles**2, self.fewest))


@dataclass(frozen=True)
class Weighted:
    """A weighted sum of parts: the mean over the classes, or a difference.

    >>> from mirst.metrics import metric_named
    >>> everything = np.ones(4)
    >>> ratio = Ratio(np.array([1.0, 1.0, 1.0, 0.0]), everything, (everything > 0,))
    >>> part = part_of(metric_named("accuracy"), ratio, np.arange(4))
    >>> Weighted([part, part], np.array([1.0, -1.0])).value
    0.0
    """

    parts: Sequence[Part]
    weights: NDArray[np.float64]

    @property
    def value(self) -> float:
        return math.fsum(self.weights * [part.value for part in self.parts])

    def ends(self, level: float) -> tuple[float, float]:
        """The ends of its interval, from those of the parts (MOVER, Zou and Donner 2008)."""
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
        """Two-sided p value of the sum being 0."""

        def beyond(level: float) -> float:
            low, high = self.ends(level)
            return low if self.value > 0 else -high

        if not beyond(LARGEST_P) > 0:
            return 1.0
        if beyond(SMALLEST_P) > 0:
            return SMALLEST_P
        return float(scipy.optimize.brentq(beyond, SMALLEST_P, LARGEST_P))

    def _correlation(self) -> NDArray[np.float64]:
        """The correlation of the parts over the groups, each part with two images of its own added.

        Two models that agree on every image of a sample may disagree on other images. The added images
        keep the correlation below 1, so that no difference has an interval of zero width.
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
    # in a pair both images vary, so each moves the ratio by twice its share of the two sums over all images
    influence = (part - value * whole) / whole.sum() * (2 if ratio.pairs else 1)
    counted = ratio.sides if ratio.pairs else (ratio.whole > 0,)
    counts = [np.bincount(group, side) for side in counted]
    return Part(
        metric,
        value,
        groups=min(len(np.unique(group[side])) for side in ratio.sides),
        rows=int((ratio.whole > 0).sum()),
        fewest=min(float(count.sum() ** 2 / (count**2).sum()) for count in counts),
        influence=influence,
    )
