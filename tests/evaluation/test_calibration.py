"""Calibration errors, Brier scores and risk-coverage curves."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from mirst.calibration import softmax
from mirst.evaluation.calibration import RiskCoverage, bin_of, brier_score, calibration_error, coverage_interval


def sample(images, classes, stretch, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (images, classes))
    labels = (softmax(logits).cumsum(1) < rng.random(images)[:, None]).sum(1)
    return softmax(stretch * logits), labels


def test_the_error_of_two_classes_is_that_of_scikit_learns_bins():
    probabilities, labels = sample(300, 2, 2.0, seed=0)
    share, mean = calibration_curve(labels, probabilities[:, 1], n_bins=10, strategy="quantile")
    found = calibration_error(probabilities, labels, range(300))
    assert found.value == pytest.approx(np.abs(share - mean).mean())
    swapped = calibration_error(probabilities[:, ::-1], 1 - labels, range(300))
    assert swapped.value == pytest.approx(found.value)


def test_the_error_of_three_classes_is_their_mean():
    probabilities, labels = sample(300, 3, 2.0, seed=1)
    each = []
    for k in range(3):
        share, mean = calibration_curve(labels == k, probabilities[:, k], n_bins=10, strategy="quantile")
        each.append(np.abs(share - mean).mean())
    assert calibration_error(probabilities, labels, range(300)).value == pytest.approx(np.mean(each))


def test_equal_probabilities_share_a_bin():
    assert bin_of([0.5] * 7).tolist() == [0] * 7
    assert bin_of([0.1] * 5 + [0.9] * 5).tolist() == [0] * 5 + [5] * 5
    assert calibration_error([[0.7, 0.3]] * 10, [0] * 7 + [1] * 3, range(10)).value == pytest.approx(0)


def test_the_interval_tells_calibrated_from_overconfident_probabilities():
    calibrated = [calibration_error(*sample(400, 2, 1.0, seed), range(400)) for seed in range(10)]
    overconfident = [calibration_error(*sample(400, 2, 3.0, seed), range(400)) for seed in range(10)]
    assert sum(one.low == 0 for one in calibrated) >= 8
    assert all(one.low > 0.02 for one in overconfident)
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in calibrated + overconfident)


def test_images_of_one_group_widen_the_interval():
    probabilities, labels = sample(60, 2, 3.0, seed=5)
    repeated = np.repeat(probabilities, 10, 0), np.repeat(labels, 10)
    apart = calibration_error(*repeated, range(600))
    together = calibration_error(*repeated, np.repeat(range(60), 10))
    assert together.value == pytest.approx(apart.value)
    assert together.high - together.value > 1.5 * (apart.high - apart.value)


def test_the_brier_score_is_that_of_scikit_learn():
    probabilities, labels = sample(200, 2, 1.5, seed=2)
    assert brier_score(probabilities, labels) == pytest.approx(brier_score_loss(labels, probabilities[:, 1]))
    three, truth = sample(200, 3, 1.5, seed=3)
    expected = sum(brier_score_loss(truth == k, three[:, k]) for k in range(3)) / 2
    assert brier_score(three, truth) == pytest.approx(expected)


def test_the_risk_is_that_of_the_most_confident_images():
    rng = np.random.default_rng(0)
    confidence, wrong = rng.permutation(50) / 50, rng.random(50) < 0.3
    curve = RiskCoverage.of(confidence, wrong)
    ordered = wrong[np.argsort(-confidence)]
    expected = [ordered[:k].mean() for k in range(1, 51)]
    np.testing.assert_allclose(curve.risk, expected)
    assert curve.area == pytest.approx(np.mean(expected))
    assert (curve.at(1.0), curve.at(0.5)) == (pytest.approx(wrong.mean()), pytest.approx(expected[24]))


def test_the_order_of_equally_confident_images_does_not_matter():
    curve = RiskCoverage.of([0.5] * 4, [True, False, False, False])
    assert curve.risk.tolist() == [0.25] * 4
    assert RiskCoverage.of([0.5] * 4, [False, False, False, True]).area == curve.area


def test_an_image_without_a_confidence_is_left_out_first():
    curve = RiskCoverage.of([np.nan, 0.1, 0.2], [True, False, False])
    assert curve.risk.tolist() == [0, 0, pytest.approx(1 / 3)]


def test_coverage_of_no_image_is_undefined():
    assert str(coverage_interval([], [])) == "undefined"
    assert coverage_interval([True] * 30, range(30)).low > 0.85
