import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score

from mirst.errors import MirstError
from mirst.evaluation import holm, interval, paired_difference


def rows(n=200, groups=None, accuracy=0.7, seed=0):
    labels = np.random.default_rng(99).integers(0, 2, n)
    wrong = np.random.default_rng(seed).random(n) > accuracy
    names = np.array(["benign", "malignant"])
    return pd.DataFrame(
        {
            "source": "s",
            "image": [f"{i}.png" for i in range(n)],
            "seed": 0,
            "group": [f"g{i % (groups or n)}" for i in range(n)],
            "label": names[labels],
            "prediction": names[np.where(wrong, 1 - labels, labels)],
        }
    )


def test_the_value_is_the_difference_of_the_pooled_metrics():
    a, b = rows(seed=1), rows(seed=2, accuracy=0.9)
    for metric, function in (("f1", f1_score), ("sensitivity", recall_score)):
        expected = function(b.label, b.prediction, pos_label="malignant") - function(
            a.label, a.prediction, pos_label="malignant"
        )
        found = paired_difference(a, b.sample(frac=1, random_state=0), "malignant", metric)
        assert found.value == pytest.approx(expected)
        assert found.low < found.value < found.high


def test_equal_sides_differ_by_nothing():
    found = paired_difference(rows(), rows(), "malignant")
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert str(found) == "+0.000 [+0.000, +0.000]"


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Two equally good models: the true difference is 0."""
    hits = 0
    for seed in range(200):
        found = paired_difference(rows(seed=2 * seed + 1), rows(seed=2 * seed + 2), "malignant", draws=400)
        hits += found.low <= 0 <= found.high
    assert 0.9 <= hits / 200 <= 0.99


def test_fewer_groups_mean_a_wider_interval():
    """Copies of 20 images are 20 images."""
    a, b = rows(20, seed=1), rows(20, seed=5)
    copies = [pd.concat([x.assign(image=x["image"] + f"-{c}") for c in range(10)], ignore_index=True) for x in (a, b)]
    one, ten = paired_difference(a, b, "malignant"), paired_difference(*copies, "malignant")
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.05)
    apart = [x.assign(group=x["image"]) for x in copies]
    loose = paired_difference(*apart, "malignant")
    assert loose.high - loose.low < 0.6 * (one.high - one.low)


def test_other_images_get_a_sentence():
    with pytest.raises(MirstError, match="same images"):
        paired_difference(rows(20), rows(21), "malignant")
    with pytest.raises(MirstError, match="same images"):
        paired_difference(rows(20), rows(20).assign(label="benign"), "malignant")


def test_one_sides_interval_holds_its_pooled_metric():
    a = rows(seed=1)
    for metric, function in (("f1", f1_score), ("sensitivity", recall_score)):
        found = interval(a, "malignant", metric)
        assert found.value == pytest.approx(function(a.label, a.prediction, pos_label="malignant"))
        assert found.low < found.value < found.high
    found = interval(a, "malignant", "accuracy")
    right = (a.label == a.prediction).to_numpy()
    assert found.value == pytest.approx(right.mean())
    error = np.sqrt(right.mean() * (1 - right.mean()) / len(right))  # of independent draws
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert str(found) == f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def test_p_is_small_exactly_where_the_interval_leaves_out_0():
    sure = paired_difference(rows(seed=1, accuracy=0.6), rows(seed=2, accuracy=0.95), "malignant")
    assert sure.low > 0
    assert sure.p == pytest.approx(2 / 10_001)
    unsure = paired_difference(rows(seed=1), rows(seed=2), "malignant")
    assert (unsure.low <= 0 <= unsure.high) == (unsure.p >= 0.05)
    assert paired_difference(rows(), rows(), "malignant").p == 1


def test_holm_by_hand():
    """The smallest times 4, the next times 3 ..., never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
