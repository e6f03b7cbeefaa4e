import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirst.metrics import balanced_accuracy, classification_metrics, youden_threshold

CLASSES = ("benign", "malignant")


def by_hand(label, prediction, positive):
    """From the four cells of the confusion matrix."""
    pairs = list(zip(label, prediction, strict=True))
    tp = sum(y == positive and p == positive for y, p in pairs)
    tn = sum(y != positive and p != positive for y, p in pairs)
    fp = sum(y != positive and p == positive for y, p in pairs)
    fn = sum(y == positive and p != positive for y, p in pairs)
    return {
        "f1": 2 * tp / (2 * tp + fp + fn) if tp else 0.0,
        "sensitivity": tp / (tp + fn) if tp else 0.0,
        "specificity": tn / (tn + fp) if tn else 0.0,
        "accuracy": (tp + tn) / len(pairs),
    }


def auc_by_hand(is_positive, score):
    """The share of pairs that are ranked right, ties counted half."""
    pairs = [
        (a, b)
        for a, p in zip(score, is_positive, strict=True)
        for b, q in zip(score, is_positive, strict=True)
        if p and not q
    ]
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


rows = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES), st.integers(-3, 3)), min_size=1, max_size=30
)


@given(rows)
def test_two_classes_equal_the_definitions(rows):
    label, prediction, score = map(list, zip(*rows, strict=True))
    metrics = classification_metrics(label, prediction, score, CLASSES, "malignant")
    for name, value in by_hand(label, prediction, "malignant").items():
        assert metrics[name] == pytest.approx(value)
    if len(set(label)) == 2:
        assert metrics["auc"] == pytest.approx(auc_by_hand([y == "malignant" for y in label], score))
    else:
        assert math.isnan(metrics["auc"])


def test_more_classes_are_macro_averages():
    classes = ("benign", "malignant", "normal")
    rng = np.random.default_rng(0)
    label, prediction = rng.choice(classes, (2, 60))
    metrics = classification_metrics(label, prediction, rng.normal(size=60), classes, "malignant")
    for name in ("f1", "sensitivity", "specificity"):
        assert metrics[name] == pytest.approx(np.mean([by_hand(label, prediction, c)[name] for c in classes]))
    assert metrics["accuracy"] == pytest.approx(np.mean(label == prediction))


def test_no_true_positives_is_f1_zero():
    metrics = classification_metrics(["malignant", "benign"], ["benign", "malignant"], [0, 1], CLASSES, "malignant")
    assert metrics["f1"] == metrics["sensitivity"] == metrics["specificity"] == metrics["auc"] == 0


def test_balanced_accuracy_of_a_constant_answer():
    assert balanced_accuracy(np.array([0, 0, 0, 1]), np.zeros(4, dtype=np.int64)) == 0.5


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=30).filter(
        lambda r: len({p for p, _ in r}) == 2
    )
)
def test_youden_maximises_sensitivity_plus_specificity(rows):
    is_positive, score = (np.array(column) for column in zip(*rows, strict=True))

    def gain(threshold):
        return np.mean(score[is_positive] > threshold) + np.mean(score[~is_positive] <= threshold)

    best = max(gain(t) for t in np.arange(-6, 6.5, 0.5))
    assert gain(youden_threshold(is_positive, score)) == pytest.approx(best)


def test_youden_lies_between_scores_nearest_to_zero():
    assert youden_threshold([False, True], [-3.0, 1.0]) == -1.0
    assert youden_threshold([True, True], [0.5, 1.0]) == 0.0
