import numpy as np
import pandas as pd
import pytest

from mirst.metrics import METRICS
from mirst.study.summary import pooled_difference, summarise, worst_rows

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


def folds_of(*labels):
    """A trial per fold with these labels, each answered rightly."""
    rows = [
        ("ce", False, fold, 0, label, "none", 0.0, label, float(label == "malignant"))
        for fold, names in enumerate(labels)
        for label in names
    ]
    names = ["defense", "drop_max", "fold", "seed", "label", "attack", "eps", "prediction", "score"]
    return pd.DataFrame(rows, columns=names)


BOTH, BENIGN, MALIGNANT = ["benign", "malignant"], ["benign"] * 2, ["malignant"] * 2


@pytest.mark.parametrize(
    ("labels", "folds"),
    [
        ([BOTH, BOTH, BOTH], {"f1": 3, "sensitivity": 3, "specificity": 3, "auc": 3, "accuracy": 3}),
        ([BOTH, BOTH, BENIGN], {"f1": 2, "sensitivity": 2, "specificity": 3, "auc": 2, "accuracy": 3}),
        ([BOTH, BOTH, MALIGNANT], {"f1": 3, "sensitivity": 3, "specificity": 2, "auc": 2, "accuracy": 3}),
        ([BOTH, MALIGNANT, BENIGN], {"f1": 2, "sensitivity": 2, "specificity": 2, "auc": 1, "accuracy": 3}),
        ([BENIGN, BENIGN], {"f1": 0, "sensitivity": 0, "specificity": 2, "auc": 0, "accuracy": 2}),
    ],
)
def test_a_fold_in_which_a_metric_is_undefined_is_left_out_and_not_counted(labels, folds):
    summary = summarise(folds_of(*labels), CLASSES, "malignant").set_index("metric")
    assert summary.loc[list(folds), "folds"].to_dict() == folds
    for metric, count in folds.items():
        row = summary.loc[metric]
        assert row["mean"] == 1.0 if count else np.isnan(row["mean"])  # every defined fold is answered rightly
        assert row["std"] == 0.0 if count > 1 else np.isnan(row["std"])


def test_every_metric_of_every_cell_has_a_row():
    table = pd.concat([outcomes([[1.0], [0.5]]), outcomes([[0.5], [0.5]]).assign(drop_max=True)])
    summary = summarise(table, CLASSES, "malignant")
    assert len(summary) == 2 * len(METRICS)


def test_the_worst_rows_of_a_study():
    def row(image, attack, prediction, score, seed=0):
        label = "malignant" if image == "m.png" else "benign"
        return {
            "defense": "ce", "drop_max": False, "fold": 0, "seed": seed, "source": "s", "image": image,
            "label": label, "attack": attack, "eps": 0.1, "prediction": prediction, "score": score,
        }  # fmt: skip

    rows = pd.DataFrame(
        [
            row("m.png", "fgsm", "malignant", 0.5),
            row("m.png", "pgd", "benign", 0.7),  # wrong at the threshold of its trial, whatever the score
            row("b.png", "fgsm", "benign", -2.0),
            row("b.png", "pgd", "benign", -1.0),
            row("b.png", "fgsm", "malignant", 1.0, seed=1),
            row("b.png", "pgd", "malignant", 3.0, seed=1),
        ]
    )
    worst = worst_rows(rows, "all", "malignant")
    assert worst[["image", "seed", "prediction", "score"]].values.tolist() == [
        ["m.png", 0, "benign", 0.7],
        ["b.png", 0, "benign", -1.0],
        ["b.png", 1, "malignant", 3.0],
    ]
    assert set(worst["attack"]) == {"all"}


def drawn(rng, seeds, images=60):
    """Rows of a defense for images in groups of two; a prediction is right with the rate of its seed."""
    rows = [
        ("s", f"{number}.png", number // 2, 0, seed, label, label if rng.random() < rate else other, 0.0)
        for seed, rate in enumerate(seeds)
        for number in range(images)
        for label, other in [("malignant", "benign") if number // 2 % 2 else ("benign", "malignant")]
    ]
    return pd.DataFrame(rows, columns=["source", "image", "group", "fold", "seed", "label", "prediction", "score"])


def test_a_difference_over_several_seeds_is_the_mean_over_seeds_with_groups_drawn_whole():
    rng = np.random.default_rng(0)
    one, two = drawn(rng, (0.7, 0.6)), drawn(rng, (0.9, 0.8))
    found = pooled_difference(one, two, ("benign", "malignant"), "malignant", "accuracy")
    right = [rows["prediction"].eq(rows["label"]).groupby(rows["image"]).mean() for rows in (one, two)]
    gain = right[1] - right[0]  # of each image, averaged over its models
    assert found.value == pytest.approx(gain.mean())
    groups = gain.groupby(gain.index.str.removesuffix(".png").astype(int) // 2).mean().to_numpy()
    means = groups[rng.integers(0, len(groups), (4000, len(groups)))].mean(1)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.04)


def test_copies_of_a_seed_do_not_narrow_the_interval():
    rng = np.random.default_rng(1)
    one, two = drawn(rng, (0.6,)), drawn(rng, (0.8,))
    copied = [pd.concat([rows, rows.assign(seed=1), rows.assign(seed=2)]) for rows in (one, two)]
    for metric in ("f1", "accuracy"):
        alone = pooled_difference(one, two, ("benign", "malignant"), "malignant", metric)
        many = pooled_difference(*copied, ("benign", "malignant"), "malignant", metric)
        assert (many.value, many.low, many.high) == pytest.approx((alone.value, alone.low, alone.high), abs=0.003)
