"""Temperatures, p values and sets of classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from mirst.calibration import HIGHEST, LOWEST, Calibration, fit_temperature, nonconformity, require_coverage, softmax
from mirst.errors import MirstError


def drawn(images, classes, seed, scale=2.0):
    """Logits, labels that follow their softmax, and a group for each image."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (images, classes))
    labels = (softmax(logits).cumsum(1) < rng.random(images)[:, None]).sum(1)
    return logits, labels, [f"g{i}" for i in range(images)]


def smoothed_loss(logits, labels, temperature):
    """A transcription of the docstring, image by image."""
    (images, classes), total = logits.shape, 0.0
    for row, label in zip(log_softmax(logits / temperature, 1), labels, strict=True):
        for k, value in enumerate(row):
            total -= value * (images * (k == label) + 1) / (images + classes)
    return total / images


@pytest.mark.parametrize(("classes", "stretch"), [(2, 0.3), (2, 4.0), (3, 2.5)])
def test_the_temperature_is_the_best_of_a_grid(classes, stretch):
    logits, labels, _ = drawn(30, classes, seed=1)
    grid = np.geomspace(LOWEST, HIGHEST, 300)
    best = grid[np.argmin([smoothed_loss(stretch * logits, labels, one) for one in grid])]
    assert fit_temperature(stretch * logits, labels) == pytest.approx(best, rel=0.015)


def test_with_many_images_it_is_that_of_scikit_learn():
    logits, labels, _ = drawn(20_000, 3, seed=2)
    found = fit_temperature(2.5 * logits, labels)
    assert found == pytest.approx(2.5, rel=0.05)
    losses = [log_loss(labels, softmax(2.5 * logits / one)) for one in (0.98 * found, found, 1.02 * found)]
    assert losses[1] == min(losses)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[0.0, 0.0]] * 3, [0, 1, 1], 1.0),  # no temperature is better than another
        ([[3.0, 0.0], [0.0, 2.0]], [1, 0], HIGHEST),  # every image is wrong
        ([[np.nan, 0.0], [0.0, np.inf]], [0, 1], 1.0),  # no image counts
        ([[1e-9, 0.0]] * 50, [0] * 50, LOWEST),  # far too small
    ],
)
def test_degenerate_validation_images_have_a_bounded_temperature(logits, labels, expected):
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-4)


def test_images_that_are_all_right_do_not_make_the_model_certain():
    """Of 9 images with the same margin, the target is 10/11."""
    found = Calibration.of([[5.0, 0.0]] * 9, [0] * 9, list("abcdefghi"))
    assert found.probabilities([[5.0, 0.0]])[0, 0] == pytest.approx(10 / 11, abs=1e-6)


@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_a_temperature_changes_no_prediction(seed, temperature):
    logits, _, _ = drawn(20, 3, seed)
    one = Calibration(temperature=temperature, scores=((),) * 3, sizes=((),) * 3)
    assert (one.probabilities(logits).argmax(1) == logits.argmax(1)).all()


def slow_p_value(score, scores, groups):
    total = 1.0
    for name in set(groups):
        own = [s for s, g in zip(scores, groups, strict=True) if g == name]
        total += sum(s >= score for s in own) / len(own)
    return total / (len(set(groups)) + 1)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 8))
def test_p_values_agree_with_a_slow_transcription(seed, images, most_groups):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 1, (images, 3)).round(1), rng.integers(0, 3, images)  # rounded, for ties
    groups = [f"g{i}" for i in rng.integers(0, most_groups, images)]
    new = np.concatenate([logits[:2], rng.normal(0, 1, (4, 3)).round(1)])
    found = Calibration.of(logits, labels, groups).p_values(new)
    assert found.shape == (len(new), 3)
    for k in range(3):
        own = np.flatnonzero(labels == k)
        scores, names = nonconformity(logits)[own, k], [groups[i] for i in own]
        expected = [slow_p_value(score, scores, names) for score in nonconformity(new)[:, k]]
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 25), st.sampled_from([0.5, 0.75, 0.8, 0.9, 0.95]), st.booleans())
def test_exchangeable_groups_are_covered_exactly_as_often_as_promised(seed, groups, coverage, several):
    """Each of the groups in turn is the new one: over the turns, the rate at which it is covered is exact."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, groups + 1) if several else np.ones(groups + 1, dtype=int)
    names = np.repeat(np.arange(groups + 1), sizes)
    logits = rng.normal(0, 2, (len(names), 1)) + rng.normal(0, 2, groups + 1)[names][:, None]
    logits = np.concatenate([logits, np.zeros_like(logits)], 1)
    covered = []
    for new in range(groups + 1):
        rest = names != new
        one = Calibration.of(logits[rest], np.zeros(rest.sum(), dtype=int), [str(name) for name in names[rest]])
        covered.append(one.sets(logits[~rest], coverage)[:, 0].mean())
    assert np.mean(covered) >= coverage - 1e-9
    if not several:  # and no more than one group above it
        assert np.mean(covered) <= coverage + 1 / (groups + 1) + 1e-9


def test_a_class_of_few_calibration_groups_is_in_every_set():
    """With coverage 0.9, nine groups can exclude a class, and eight cannot."""
    surely_not = [[0.0, 50.0]]
    for groups, contained in ((0, True), (8, True), (9, False)):
        logits, labels = [[30.0, 0.0]] * groups + [[0.0, 30.0]] * 20, [0] * groups + [1] * 20
        one = Calibration.of(logits, labels, [str(i) for i in range(groups + 20)])
        assert one.sets(surely_not, 0.9).tolist() == [[contained, True]]


def test_many_images_of_one_patient_are_one_group():
    one = Calibration.of([[30.0, 0.0]] * 100, [0] * 100, ["patient"] * 100)
    assert one.p_values([[0.0, 0.0]])[0].tolist() == [0.5, 1.0]


def test_logits_that_are_not_finite_are_never_covered_and_make_calibration_no_bolder():
    rows = [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, 0.0]]
    one = Calibration.of([*rows, [2.0, 0.0]], [0, 0, 0, 0], list("abcd"))
    assert one.scores[0] == (1.0, 1.0, 1.0, pytest.approx(1 / (1 + np.exp(2))))
    assert not one.sets(rows, 0.999).any()
    assert one.p_values([[-40.0, 0.0]])[0, 0] == pytest.approx(4 / 5)


def test_many_calibration_images_are_thinned():
    logits, labels, groups = drawn(25_000, 2, seed=3)
    one = Calibration.of(logits, labels, groups)
    assert [5_000 <= len(own) <= 10_000 for own in one.scores] == [True, True]
    sets = one.sets(drawn(4_000, 2, seed=4)[0], 0.9)
    assert sets[np.arange(4_000), drawn(4_000, 2, seed=4)[1]].mean() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 90, float("nan")])
def test_a_coverage_out_of_range_gets_a_sentence(coverage):
    with pytest.raises(MirstError, match=r"it must be above 0 and below 1, for example 0\.9"):
        require_coverage(coverage)
