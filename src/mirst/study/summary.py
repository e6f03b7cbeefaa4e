"""From the outcome rows of a study to metrics of its trials, means over folds, intervals and differences."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mirst.evaluation import Difference, Interval, class_intervals, interval, paired_difference, unpaired_difference
from mirst.metrics import CLASS_SCORE, row_metrics

TRIAL = ["defense", "drop_max", "fold", "seed"]
"""The columns that name the trial of a row."""
CONDITION = ["defense", "drop_max", "attack", "eps"]
"""The columns that a mean over the folds is taken within."""
MODEL = ["fold", "seed"]
"""The columns that name the model among the rows of one defense."""
IMAGE = ["source", "image", "seed"]
"""The columns that pair a row with the row of the same image of another defense."""


def trial_metrics(outcomes: pd.DataFrame, classes: Sequence[str], positive: str | None) -> pd.DataFrame:
    """One row per trial, attack and metric: `defense, drop_max, fold, seed, attack, eps, metric, value`."""
    keys = [*TRIAL, "attack", "eps"]
    rows = []
    for key, group in outcomes.groupby(keys, sort=False):
        values = row_metrics(group, classes, positive)
        rows += [(*key, metric, value) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=[*keys, "metric", "value"])


def summarise(outcomes: pd.DataFrame, classes: Sequence[str], positive: str | None) -> pd.DataFrame:
    """`defense, drop_max, attack, eps, metric, mean, std, folds, seeds`, unrounded.

    The seeds of a fold are averaged first; `mean` and `std` (n - 1) are over the `folds` in which the
    metric is defined, so `std` is the spread from fold to fold. Without such a fold `mean` is NaN,
    with fewer than two `std` is.

    >>> row = {"defense": "ce", "drop_max": False, "fold": 0, "seed": 0, "attack": "none", "eps": 0.0, "score": 1.0}
    >>> rows = pd.DataFrame([row | {"label": "b", "prediction": "b"}])
    >>> summarise(rows, ("a", "b"), "b").set_index("metric")["folds"].to_dict()
    {'f1': 1, 'sensitivity': 1, 'specificity': 0, 'auc': 0, 'accuracy': 1}
    """
    values = trial_metrics(outcomes, classes, positive)
    rows = []
    for key, group in values.groupby([*CONDITION, "metric"], sort=False):
        per_fold = group.groupby("fold")["value"].mean()
        rows.append((*key, per_fold.mean(), per_fold.std(), per_fold.count(), group["seed"].nunique()))
    return pd.DataFrame(rows, columns=[*CONDITION, "metric", "mean", "std", "folds", "seeds"])


def worst_rows(rows: pd.DataFrame, name: str, positive: str | None) -> pd.DataFrame:
    """The worst row of each image of each trial, over several attacks, under the attack `name`.

    A misclassification is worse than a correct prediction; then the score that is farthest on the wrong side is worse.
    Without a positive class the score is that of the label.

    Args:
        rows: attacked rows of a study, with the columns of its trials.
    """
    if positive is None:
        columns = [CLASS_SCORE + name for name in rows["label"].unique()]
        away = -rows[columns].where(np.array(columns) == CLASS_SCORE + rows[["label"]].to_numpy()).max(axis=1)
    else:
        away = rows["score"].where(rows["label"] != positive, -rows["score"])
    ordered = rows.assign(wrong=rows["label"] != rows["prediction"], away=away).sort_values(["wrong", "away"])
    worst = ordered.groupby([*TRIAL, "source", "image"], sort=False).tail(1).sort_index()
    return worst.drop(columns=["wrong", "away"]).assign(attack=name, eps=rows["eps"].max())


def pooled_interval(rows: pd.DataFrame, classes: Sequence[str], positive: str | None, metric: str = "f1") -> Interval:
    """`interval` of the rows of one defense under one attack, pooled over folds and seeds."""
    return interval(rows, classes, positive, metric, of_model=MODEL)


def pooled_class_intervals(rows: pd.DataFrame, classes: Sequence[str], metric: str) -> tuple[list[Interval], Interval]:
    """`class_intervals` of the rows of one defense under one attack, pooled over folds and seeds."""
    return class_intervals(rows, classes, metric, of_model=MODEL)


def pooled_difference(
    first: pd.DataFrame, second: pd.DataFrame, classes: Sequence[str], positive: str | None, metric: str = "f1"
) -> Difference:
    """`paired_difference` of the rows of two defenses, pooled over folds and seeds.

    Raises:
        MirstError: the two do not hold the same images with the same labels and seeds.
    """
    return paired_difference(first, second, classes, positive, metric, pair_by=IMAGE, of_model=MODEL)


def pooled_change(
    internal: pd.DataFrame, external: pd.DataFrame, classes: Sequence[str], positive: str | None, metric: str = "f1"
) -> Difference:
    """`unpaired_difference` of the rows of one defense on two data sets, pooled over folds and seeds."""
    return unpaired_difference(internal, external, classes, positive, metric, of_model=MODEL)
