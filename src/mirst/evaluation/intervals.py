"""Intervals that respect groups: images of one lesion are no independent draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirst.errors import MirstError

Cells = NDArray[np.float64]
"""`(groups, 5)`: true positives, false positives, false negatives, right answers and images of each group."""


Metric = Literal["f1", "sensitivity", "accuracy"]


@dataclass(frozen=True)
class Interval:
    """`value` and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference(Interval):
    """`value`, its 95 % interval, and how often chance alone would give as much."""

    p: float
    """Two-sided, by the bootstrap: twice the share of draws on the other side of 0, at least 2 / (draws + 1)."""

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def interval(rows: pd.DataFrame, positive: str, metric: Metric = "f1", draws: int = 10_000, seed: int = 0) -> Interval:
    """The metric of the pooled rows of all folds and seeds, by a percentile bootstrap over groups.

    Args:
        rows: outcome rows with `group, label, prediction`.
    """
    cells = _cells(_groups(rows), rows, "prediction", positive)
    spread = _metric(_draws(len(cells), draws, seed) @ cells, metric)
    low, high = np.percentile(spread, [2.5, 97.5])
    return Interval(float(_metric(cells.sum(0), metric)), float(low), float(high))


def paired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    positive: str,
    metric: Metric = "f1",
    draws: int = 10_000,
    seed: int = 0,
) -> Difference:
    """How much larger the metric is in `second` than in `first`, on the same images.

    The rows of all folds are pooled, and a metric is computed from the pooled counts. The interval
    is a percentile bootstrap that draws groups, the same ones for both sides.

    Args:
        first, second: outcome rows with `source, image, seed, group, label, prediction`, one per
            image and seed; the groups are those of `first`.

    Raises:
        MirstError: the two do not hold the same images with the same labels and seeds.
    """
    keys = ["source", "image", "seed"]
    both = first.merge(second[[*keys, "label", "prediction"]], on=keys, suffixes=("", "_second"), validate="1:1")
    if not len(both) == len(first) == len(second) or not (both["label"] == both["label_second"]).all():
        raise MirstError("a paired difference needs the same images, labels and seeds on both sides")
    group = _groups(both)
    cells = [_cells(group, both, column, positive) for column in ("prediction", "prediction_second")]
    weights = _draws(len(cells[0]), draws, seed)
    spread = _metric(weights @ cells[1], metric) - _metric(weights @ cells[0], metric)
    value = float(_metric(cells[1].sum(0), metric) - _metric(cells[0].sum(0), metric))
    low, high = np.percentile(spread, [2.5, 97.5])
    beyond = min((spread <= 0).sum(), (spread >= 0).sum())
    return Difference(value, float(low), float(high), min(1.0, 2 * (beyond + 1) / (draws + 1)))


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for being many, in the order given (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return [float(value) for value in np.minimum(corrected, 1.0)]


def _groups(rows: pd.DataFrame) -> NDArray[np.int64]:
    return np.asarray(rows.groupby("group", sort=True).ngroup(), dtype=np.int64)


@lru_cache(maxsize=2)
def _draws(count: int, draws: int, seed: int) -> NDArray[np.float64]:
    """How often each group is drawn, `(draws, groups)`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)


def _cells(group: NDArray[np.int64], rows: pd.DataFrame, column: str, positive: str) -> Cells:
    truth, answer = ((rows[name] == positive).to_numpy() for name in ("label", column))
    right = (rows["label"] == rows[column]).to_numpy()
    kinds = (truth & answer, ~truth & answer, truth & ~answer, right, np.ones_like(right))
    return np.stack([np.bincount(group, kind, minlength=int(group.max()) + 1) for kind in kinds], axis=1)


def _metric(cells: Cells, metric: str) -> NDArray[np.float64]:
    """Of the last axis; 0 without true positives."""
    hit, false, missed, right, images = np.moveaxis(cells, -1, 0)
    part, whole = {
        "f1": (2 * hit, 2 * hit + false + missed),
        "sensitivity": (hit, hit + missed),
        "accuracy": (right, images),
    }[metric]
    return np.asarray(part / np.maximum(whole, 1e-12))
