"""From outcome rows to mean and spread over folds."""

from collections.abc import Sequence

import pandas as pd

from mirst.metrics import METRICS, classification_metrics

TRIAL = ["defense", "drop_max", "fold", "seed"]
CELL = ["defense", "drop_max", "attack", "eps"]


def trial_metrics(outcomes: pd.DataFrame, classes: Sequence[str], positive: str) -> pd.DataFrame:
    """One row per trial, attack and metric: `defense, drop_max, fold, seed, attack, eps, metric, value`."""
    keys = [*TRIAL, "attack", "eps"]
    rows = []
    for key, group in outcomes.groupby(keys, sort=False):
        values = classification_metrics(group["label"], group["prediction"], group["score"], classes, positive)
        rows += [(*key, metric, values[metric]) for metric in METRICS]
    return pd.DataFrame(rows, columns=[*keys, "metric", "value"])


def summarise(outcomes: pd.DataFrame, classes: Sequence[str], positive: str) -> pd.DataFrame:
    """`defense, drop_max, attack, eps, metric, mean, std, folds, seeds`, unrounded.

    The seeds of a fold are averaged first; `mean` and `std` (n - 1) are over the `folds` in which the
    metric is defined, so `std` is the spread from fold to fold. Without such a fold `mean` is NaN,
    with fewer than two `std` is.
    """
    values = trial_metrics(outcomes, classes, positive)
    rows = []
    for key, group in values.groupby([*CELL, "metric"], sort=False):
        per_fold = group.groupby("fold")["value"].mean()
        rows.append((*key, per_fold.mean(), per_fold.std(), per_fold.count(), group["seed"].nunique()))
    return pd.DataFrame(rows, columns=[*CELL, "metric", "mean", "std", "folds", "seeds"])
