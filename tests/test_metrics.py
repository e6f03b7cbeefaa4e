import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, recall_score, roc_auc_score

from mirst.errors import MirstError
from mirst.metrics import (
    METRICS,
    MetricInput,
    auc,
    balanced_accuracy,
    classification_metrics,
    metric_named,
    quadratic_kappa,
    study_metrics,
)
from mirst.thresholds import sensitivity_threshold, specificity_threshold, youden_threshold

CLASSES = ("benign", "malignant")
LISTED = {"f1", "sensitivity", "specificity", "auc", "accuracy"}
"""Metrics of which these tests know the definition; a new one brings a test of its own."""


def by_hand(label, prediction, positive):
    """From the four cells of the confusion matrix."""
    pairs = list(zip(label, prediction, strict=True))
    tp = sum(y == positive and p == positive for y, p in pairs)
    tn = sum(y != positive and p != positive for y, p in pairs)
    fp = sum(y != positive and p == positive for y, p in pairs)
    fn = sum(y == positive and p != positive for y, p in pairs)
    return {
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fn else math.nan,
        "sensitivity": tp / (tp + fn) if tp + fn else math.nan,
        "specificity": tn / (tn + fp) if tn + fp else math.nan,
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
        assert metrics[name] == pytest.approx(value, nan_ok=True)
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


@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        ("bbb", {"f1", "sensitivity", "auc"}),
        ("mmm", {"specificity", "auc"}),
        ("b", {"f1", "sensitivity", "auc"}),
        ("m", {"specificity", "auc"}),
        ("bm", set()),
    ],
)
@pytest.mark.parametrize("prediction", ["b", "m", "right", "wrong"])
def test_a_metric_without_the_images_that_it_needs_is_undefined(label, undefined, prediction):
    truth = ["benign" if one == "b" else "malignant" for one in label]
    other = {"benign": "malignant", "malignant": "benign"}
    answers = {
        "b": ["benign"] * len(truth),
        "m": ["malignant"] * len(truth),
        "right": truth,
        "wrong": [other[one] for one in truth],
    }[prediction]
    metrics = classification_metrics(truth, answers, np.arange(len(truth)), CLASSES, "malignant")
    assert {name for name in LISTED if math.isnan(metrics[name])} == undefined


@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        (["benign", "malignant"], {"f1", "sensitivity"}),
        (["benign", "normal"], {"f1", "sensitivity", "auc"}),
        (["normal", "normal"], {"f1", "sensitivity", "specificity", "auc"}),
        (["malignant"], {"f1", "sensitivity", "specificity", "auc"}),
        (["benign", "malignant", "normal"], set()),
    ],
)
def test_a_macro_average_needs_every_class(label, undefined):
    classes = ("benign", "malignant", "normal")
    metrics = classification_metrics(label, ["benign"] * len(label), [0.0] * len(label), classes, "malignant")
    assert {name for name in LISTED if math.isnan(metrics[name])} == undefined


@pytest.mark.parametrize("classes", [CLASSES, ("benign", "malignant", "normal"), ("a", "malignant", "b", "c")])
def test_every_metric_equals_that_of_scikit_learn(classes):
    rng = np.random.default_rng(1)
    label, prediction = rng.choice(classes, (2, 80))
    score = rng.integers(-4, 5, 80).astype(float)  # with ties
    metrics = classification_metrics(label, prediction, score, classes, "malignant")
    counted = ["malignant"] if len(classes) == 2 else list(classes)
    expected = {
        "f1": f1_score(label, prediction, labels=counted, average="macro"),
        "sensitivity": recall_score(label, prediction, labels=counted, average="macro"),
        "specificity": np.mean([recall_score(label != one, prediction != one) for one in counted]),
        "auc": roc_auc_score(label == "malignant", score),
        "accuracy": accuracy_score(label, prediction),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert set(expected) == LISTED


@pytest.mark.parametrize("infinite", [False, True])
def test_a_nan_score_ranks_on_the_wrong_side_in_both_classes(infinite):
    label = ["malignant", "malignant", "benign", "benign"]
    high = np.inf if infinite else 9.0
    found = [
        classification_metrics(label, label, score, CLASSES, "malignant")["auc"]
        for score in (
            [high, 2.0, 1.0, -high],
            [np.nan, 2.0, 1.0, -high],
            [high, 2.0, 1.0, np.nan],
            [np.nan, 2.0, np.nan, -high],
            [np.nan] * 4,
        )
    ]
    assert found == [1.0, 0.5, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("lost", [np.nan, None, "no class"])
def test_a_prediction_that_is_no_class_is_wrong_in_both_classes(lost):
    label = ["malignant", "malignant", "benign", "benign"]
    found = classification_metrics(
        label, np.array(["malignant", lost, "benign", lost], dtype=object), [0.0] * 4, CLASSES, "malignant"
    )
    assert (found["sensitivity"], found["specificity"], found["accuracy"], found["f1"]) == (0.5, 0.5, 0.5, 0.5)


scores = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, math.nan]), scores), min_size=1))
def test_whatever_the_rows_a_defined_metric_is_finite(rows):
    label, prediction, score = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    metrics, both = classification_metrics(label, prediction, score, CLASSES, "malignant"), len(set(label)) == 2
    for name in LISTED:
        value = metrics[name]
        assert 0 <= value <= 1 or (not both and name != "accuracy" and math.isnan(value))


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


def test_youden_leaves_out_scores_that_are_not_finite():
    finite = youden_threshold([False, False, True, True], [-3.0, 0.5, 1.0, 2.0])
    lost = [np.nan, np.nan, np.inf, -np.inf]
    assert youden_threshold([False, False, True, True, True, False, False, True], [-3, 0.5, 1, 2, *lost]) == finite
    assert youden_threshold([False, True], [np.nan, np.nan]) == 0.0
    assert youden_threshold([False, True], [1.0, np.nan]) == 0.0


def test_youden_lies_between_scores_nearest_to_zero():
    assert youden_threshold([False, True], [-3.0, 1.0]) == -1.0
    assert youden_threshold([True, True], [0.5, 1.0]) == 0.0


RATES = st.one_of(st.sampled_from([0.25, 0.5, 0.9, 0.95, 1.0]), st.floats(0, 1, exclude_min=True))
SCORES = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))
SCORED = st.lists(st.tuples(st.booleans(), SCORES), min_size=2, max_size=20).filter(
    lambda rows: len({is_positive for is_positive, _ in rows}) == 2
)


def all_cuts(score):
    """One threshold for every way to divide the scores, from all images positive to none."""
    values = sorted(set(score.tolist()))
    return [values[0] - 1, *[(a + b) / 2 for a, b in itertools.pairwise(values)], values[-1] + 1]


@given(SCORED, RATES)
def test_the_sensitivity_threshold_is_the_largest_cut_of_that_sensitivity(rows, wanted):
    is_positive, score = (np.array(column) for column in zip(*rows, strict=True))
    enough = [cut for cut in all_cuts(score) if np.mean(score[is_positive] > cut) >= wanted]
    assert sensitivity_threshold(is_positive, score, wanted) == max(enough)


@given(SCORED, RATES)
def test_the_specificity_threshold_is_the_smallest_cut_of_that_specificity(rows, wanted):
    is_positive, score = (np.array(column) for column in zip(*rows, strict=True))
    enough = [cut for cut in all_cuts(score) if np.mean(score[~is_positive] <= cut) >= wanted]
    assert specificity_threshold(is_positive, score, wanted) == min(enough)


def test_images_of_equal_score_are_called_alike():
    is_positive, score = [True, False, True, True, False], [1.0, 1.0, 1.0, 3.0, -1.0]
    assert sensitivity_threshold(is_positive, score, 0.3) == 2.0
    assert sensitivity_threshold(is_positive, score, 0.4) == 0.0
    assert specificity_threshold(is_positive, score, 0.5) == 0.0
    assert specificity_threshold(is_positive, score, 0.6) == 2.0


def test_thresholds_at_a_rate_without_images_of_the_class_or_with_scores_that_are_not_finite():
    assert sensitivity_threshold([False], [2.0], 0.9) == specificity_threshold([True], [2.0], 0.9) == 0.0
    assert sensitivity_threshold([True, True, False], [np.nan, 1.0, np.inf], 1.0) == 0.0
    assert specificity_threshold([False, False, True], [np.nan, 1.0, -np.inf], 1.0) == 2.0


@given(SCORED)
def test_auc_is_that_of_scikit_learn(rows):
    is_positive, score = (np.array(column) for column in zip(*rows, strict=True))
    assert auc(is_positive, score) == pytest.approx(roc_auc_score(is_positive, score))


def test_auc_without_both_classes_is_nan():
    assert np.isnan(auc([True, True], [0.0, 1.0]))


def test_every_entry_of_the_table_is_computed_under_its_own_name():
    found = classification_metrics(["benign", "malignant"], ["benign"] * 2, [0.0, 1.0], CLASSES, "malignant")
    assert list(found) == list(METRICS) == [metric.name for metric in METRICS.values()]
    assert (
        len({metric.title for metric in METRICS.values()})
        == len({metric.hub for metric in METRICS.values()})
        == len(found)
    )
    assert all(metric.computed_from == "predictions" for metric in METRICS.values() if metric.drawn)


def test_an_unknown_metric_gets_a_sentence():
    with pytest.raises(MirstError, match="unknown metric specifity; did you mean specificity"):
        metric_named("specifity")


GRADES = ("0", "1", "2", "3")


@given(st.lists(st.tuples(st.sampled_from(GRADES), st.sampled_from(GRADES)), min_size=1, max_size=30))
def test_the_quadratic_kappa_is_scikit_learns(pairs):
    label, prediction = map(list, zip(*pairs, strict=True))
    if len({*label, *prediction}) == 1:
        assert math.isnan(quadratic_kappa(label, prediction, GRADES))
    else:
        wanted = cohen_kappa_score(label, prediction, labels=GRADES, weights="quadratic")
        assert quadratic_kappa(label, prediction, GRADES) == pytest.approx(wanted)


def test_a_prediction_that_is_no_grade_is_the_farthest_one():
    label = ["0", "1", "2", "3"]
    assert quadratic_kappa(label, [math.nan, "1", None, "3"], GRADES) == quadratic_kappa(
        label, ["3", "1", "0", "3"], GRADES
    )


def three_classes(rng):
    label = rng.integers(3, size=60)
    probability = rng.dirichlet(np.ones(3), 60)
    probability[np.arange(60), label] += 0.2
    probability /= probability.sum(1, keepdims=True)
    names = np.array(["a", "b", "c"])
    return names[label], names[probability.argmax(1)], probability


def test_without_a_positive_class_metrics_are_means_over_the_classes():
    label, prediction, probability = three_classes(np.random.default_rng(0))
    scores = np.log(probability / (1 - probability))
    given = MetricInput.of(label, prediction, scores[:, 0], ("a", "b", "c"), None, class_scores=scores)
    values = {name: metric.value(given) for name, metric in study_metrics(None).items()}
    assert values == pytest.approx(
        {
            "f1": f1_score(label, prediction, average="macro"),
            "recall": recall_score(label, prediction, average="macro"),
            "auc_macro": roc_auc_score(label, probability, multi_class="ovr", average="macro"),
            "accuracy": accuracy_score(label, prediction),
        }
    )


def test_auc_of_the_classes_is_undefined_if_a_score_is_missing():
    label, prediction, scores = three_classes(np.random.default_rng(1))
    scores[7, 1] = math.nan
    for own in (scores, None):
        given = MetricInput.of(label, prediction, scores[:, 0], ("a", "b", "c"), None, class_scores=own)
        assert math.isnan(metric_named("auc_macro").value(given))
