"""Intervals that respect groups: images of one lesion are no independent draws."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirst.errors import MirstError

Cells = NDArray[np.float64]
"""`(groups, 3)`: true positives, false positives, false negatives of each group."""


@dataclass(frozen=True)
class Difference:
    """`value` and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    positive: str,
    metric: Literal["f1", "sensitivity"] = "f1",
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
    group: NDArray[np.int64] = np.asarray(both.groupby("group", sort=True).ngroup(), dtype=np.int64)
    truth = (both["label"] == positive).to_numpy()
    cells = [
        _cells(group, truth, (both[column] == positive).to_numpy()) for column in ("prediction", "prediction_second")
    ]
    rng = np.random.default_rng(seed)
    count = len(cells[0])
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)
    spread = _metric(weights @ cells[1], metric) - _metric(weights @ cells[0], metric)
    value = float(_metric(cells[1].sum(0), metric) - _metric(cells[0].sum(0), metric))
    low, high = np.percentile(spread, [2.5, 97.5])
    return Difference(value, float(low), float(high))


def _cells(group: NDArray[np.int64], truth: NDArray[np.bool_], answer: NDArray[np.bool_]) -> Cells:
    kinds = (truth & answer, ~truth & answer, truth & ~answer)
    return np.stack([np.bincount(group, kind, minlength=int(group.max()) + 1) for kind in kinds], axis=1)


def _metric(cells: Cells, metric: str) -> NDArray[np.float64]:
    """Of the last axis; 0 without true positives."""
    hit, false, missed = np.moveaxis(cells, -1, 0)
    whole = 2 * hit + false + missed if metric == "f1" else hit + missed
    return np.asarray((2 * hit if metric == "f1" else hit) / np.maximum(whole, 1e-12))
