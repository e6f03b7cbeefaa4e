import pandas as pd
import pytest

from mirst.evaluation import summarise

CLASSES = ("benign", "malignant")


def outcomes(sensitivities):
    """Four malignant images a trial, as many found as the sensitivity says; `sensitivities[fold][seed]`."""
    rows = []
    for fold, seeds in enumerate(sensitivities):
        for seed, sensitivity in enumerate(seeds):
            for i in range(4):
                found = "malignant" if i < 4 * sensitivity else "benign"
                rows.append(("ce", False, fold, seed, "malignant", "none", 0.0, found, 1.0))
            rows.append(("ce", False, fold, seed, "benign", "none", 0.0, "benign", 0.0))
    names = ["defense", "drop_max", "fold", "seed", "label", "attack", "eps", "prediction", "score"]
    return pd.DataFrame(rows, columns=names)


def test_mean_and_spread_over_folds_of_the_mean_over_seeds():
    summary = summarise(outcomes([[1.0, 0.5], [0.25, 0.25], [0.0, 0.5]]), CLASSES, "malignant")
    assert list(summary.columns) == ["defense", "drop_max", "attack", "eps", "metric", "mean", "std", "folds", "seeds"]
    row = summary[summary["metric"] == "sensitivity"].iloc[0]
    assert row["mean"] == pytest.approx((0.75 + 0.25 + 0.25) / 3)
    assert row["std"] == pytest.approx(0.28867513)
    assert (row["folds"], row["seeds"]) == (3, 2)


def test_every_metric_of_every_cell_has_a_row():
    table = pd.concat([outcomes([[1.0], [0.5]]), outcomes([[0.5], [0.5]]).assign(drop_max=True)])
    summary = summarise(table, CLASSES, "malignant")
    assert len(summary) == 2 * 5
