"""95 % intervals of metrics that take groups into account: images of one lesion are not independent.

A metric is a ratio of sums over the groups. Its variance between the groups gives an effective number of
images. The interval is that of Clopper and Pearson for this number (Korn and Graubard 1998). It needs no
resampling, lies within [0, 1] and never has zero width. `docs/results/intervals.md` reports its coverage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirst.errors import MirstError
from mirst.evaluation.interval_parts import LEVEL, Part, Weighted, part_of
from mirst.metrics import Metric, MetricInput, metric_named


@dataclass(frozen=True)
class Interval:
    """`value` and its 95 % interval; all three are NaN if the metric is undefined.

    >>> str(Interval(0.8, 0.71, 0.87))
    '0.800 [0.710, 0.870]'
    """

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
    """`value`, its 95 % interval, and the two-sided p value of the difference being 0.

    >>> str(Difference(0.1, 0.02, 0.18, p=0.01))
    '+0.100 [+0.020, +0.180]'
    """

    p: float
    """The largest level at which the interval excludes 0; 1 if the interval includes 0 at every level."""

    def __str__(self) -> str:
        return self._shown("+.3f")


def interval(
    rows: pd.DataFrame,
    classes: Sequence[str],
    positive: str | None,
    metric: str = "f1",
    *,
    of_model: Sequence[str] = (),
) -> Interval:
    """The metric of the pooled rows of one or several models, as `classification_metrics` defines it.

    Args:
        rows: outcome rows with `group, label, prediction, score`, and `worst_score` for `auc_attacked`.
        metric: a name that `metric_named` knows.
        of_model: the columns whose values together identify the model, if the rows come from several models. A metric
            of scores, such as AUC, compares only scores of one model.

    Raises:
        MirstError: an unknown metric.

    >>> rows = pd.DataFrame({"group": range(20), "label": "b", "prediction": ["b"] * 16 + ["a"] * 4, "score": 0.0})
    >>> str(interval(rows, ("a", "b"), "b", "sensitivity"))
    '0.800 [0.563, 0.943]'
    """
    parts = _parts(rows, rows["group"], classes, positive, metric_named(metric), of_model)
    return _mean(parts, np.full(len(parts), 1 / len(parts)))


def class_intervals(
    rows: pd.DataFrame, classes: Sequence[str], metric: str = "f1", *, of_model: Sequence[str] = ()
) -> tuple[list[Interval], Interval]:
    """A metric of predictions for each of more than two classes, and its mean weighted by the images of the classes.

    Args:
        rows, metric, of_model: as for `interval`; accuracy and the metrics of scores have no value per class.

    Raises:
        MirstError: an unknown metric.

    >>> rows = pd.DataFrame({"group": range(30), "label": ["a", "b", "c"] * 10, "prediction": "a", "score": 0.0})
    >>> [one.value for one in class_intervals(rows, ("a", "b", "c"), "sensitivity")[0]]
    [1.0, 0.0, 0.0]
    """
    parts = _parts(rows, rows["group"], classes, classes[0], metric_named(metric), of_model)
    shares = np.array([(rows["label"] == name).mean() for name in classes])
    return [_mean([part], np.ones(1)) for part in parts], _mean(parts, shares)


def paired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    classes: Sequence[str],
    positive: str | None,
    metric: str = "f1",
    *,
    pair_by: Sequence[str] = ("source", "image"),
    of_model: Sequence[str] = (),
) -> Difference:
    """The metric of `second` minus that of `first`, on the same images.

    The interval combines those of the two sides with the correlation of their groups (Zou and
    Donner 2008), and lies within [-1, 1].

    Args:
        first, second: outcome rows as for `interval`; the groups are those of `first`.
        metric, of_model: as for `interval`.
        pair_by: the columns that pair a row of `first` with the row of `second`; each side has one row for each of
            their values.

    Raises:
        MirstError: the two do not contain the same images with the same labels, or the metric is unknown.

    >>> first = pd.DataFrame({"image": range(20), "group": range(20), "label": "b", "prediction": "a", "score": 0.0})
    >>> paired_difference(first, first.assign(prediction="b"), ("a", "b"), "b", "accuracy", pair_by=["image"]).value
    1.0
    """
    keys, entry = list(pair_by), metric_named(metric)
    other = first[[*keys, "group", "label"]].merge(
        second.drop(columns="group"), on=keys, suffixes=("_first", ""), validate="1:1"
    )
    if not len(other) == len(first) == len(second) or not (other["label"] == other["label_first"]).all():
        raise MirstError(f"a paired difference needs the same images (by {', '.join(keys)}) and labels on both sides")
    ours, theirs = (
        _parts(rows, group, classes, positive, entry, of_model)
        for rows, group in ((first, first["group"]), (other, other["group"]))
    )
    gain = Weighted([*theirs, *ours], np.repeat([1 / len(theirs), -1 / len(ours)], len(ours)))
    low, high = gain.ends(LEVEL)
    return Difference(gain.value, max(low, -1.0), min(high, 1.0), gain.p())


def _mean(parts: Sequence[Part], weights: NDArray[np.float64]) -> Interval:
    mean = Weighted(parts, weights)
    low, high = mean.ends(LEVEL)
    return Interval(mean.value, max(low, 0.0), min(high, 1.0))


def unpaired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    classes: Sequence[str],
    positive: str | None,
    metric: str = "f1",
    *,
    of_model: Sequence[str] = (),
) -> Difference:
    """The metric of `second` minus that of `first`, on different images, such as those of two hospitals.

    The interval combines those of the two sides as in `paired_difference`, without a correlation.

    Args:
        first, second: outcome rows as for `interval`; no group of one side is a group of the other.
        metric, of_model: as for `interval`.

    Raises:
        MirstError: an unknown metric.

    >>> first = pd.DataFrame({"group": range(20), "label": "b", "prediction": ["b"] * 16 + ["a"] * 4, "score": 0.0})
    >>> str(unpaired_difference(first, first.assign(prediction="b"), ("a", "b"), "b", "sensitivity"))
    '+0.200 [-0.021, +0.437]'
    """
    entry = metric_named(metric)
    ours, theirs = (_parts(rows, rows["group"], classes, positive, entry, of_model) for rows in (first, second))
    before, after = len(theirs[0].influence), len(ours[0].influence)
    apart = [replace(part, influence=np.pad(part.influence, (0, after))) for part in theirs]
    apart += [replace(part, influence=np.pad(part.influence, (before, 0))) for part in ours]
    gain = Weighted(apart, np.repeat([1 / len(theirs), -1 / len(ours)], len(ours)))
    low, high = gain.ends(LEVEL)
    return Difference(gain.value, max(low, -1.0), min(high, 1.0), gain.p())


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for multiple comparisons, in the order given (Holm 1979).

    >>> holm([0.01, 0.04])
    [0.02, 0.04]
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return [float(value) for value in np.minimum(corrected, 1.0)]


def _parts(
    rows: pd.DataFrame,
    group: "pd.Series[str]",
    classes: Sequence[str],
    positive: str | None,
    metric: Metric,
    of_model: Sequence[str],
) -> list[Part]:
    model = rows.groupby(list(of_model)).ngroup().to_numpy() if of_model else None
    number = pd.factorize(group, use_na_sentinel=False)[0]
    given = MetricInput.of_rows(rows, classes, positive, model)
    return [part_of(metric, ratio, number) for ratio in metric.ratios(given)]
