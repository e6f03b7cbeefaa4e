"""Margins, scores and the largest eps of certificates."""

import math

import pytest
import torch
from torch import nn

from mirst.bounds import METHODS, largest_certified_eps, margin_bounds, score_bounds
from mirst.errors import MirstError
from mirst.evaluation.judge import decide
from mirst.nn.logits import logits_of
from tests.bounds.helpers import images, net
from tests.helpers import fused, fused_ensemble, small_batch, snapshot, with_boxes


def predicted(model, x):
    return logits_of(model, x).argmax(1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("threshold", [-0.1, 0.0, 0.2])
def test_at_eps_0_the_margin_is_the_distance_from_the_operating_point(method, positive, threshold):
    model, x = net(1, classes=2), images(6)
    y = torch.tensor([0, 1] * 3)
    score, prediction = decide(logits_of(model, x), positive, threshold)
    margin = margin_bounds(model, x, y, 0.0, method=method, threshold=threshold, positive=positive)
    wanted = (score - threshold) * torch.where(y == positive, 1, -1)
    torch.testing.assert_close(margin, wanted, atol=1e-4, rtol=0)
    assert ((margin > 0) == (prediction == y)).all()


@pytest.mark.parametrize("method", METHODS)
def test_crown_is_at_least_as_tight_and_margins_fall_with_eps(method):
    model, x = net(2), images(4)
    y = predicted(model, x)
    before = torch.full((4,), torch.inf, dtype=torch.float64)
    for eps in (0.0, 1 / 255, 4 / 255, 16 / 255):
        margin = margin_bounds(model, x, y, eps, method=method)
        assert (margin < before).all()
        assert (margin_bounds(model, x, y, eps, method="crown") >= margin_bounds(model, x, y, eps)).all()
        before = margin
    assert (margin_bounds(model, x, y, 4 / 255, method="crown") > margin_bounds(model, x, y, 4 / 255)).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("positive", [0, 2])
def test_scores_lie_on_the_worse_side_of_every_image_in_the_ball(method, positive):
    model, x, eps = net(3), images(6), 0.02
    is_positive = torch.tensor([True, False] * 3)
    bound = score_bounds(model, x, is_positive, eps, method=method, positive=positive)
    scores = []
    for seed in range(30):
        moved = x + eps * (images(6, seed=seed) * 2 - 1).sign()
        scores.append(decide(logits_of(model, moved.clamp(0, 1)), positive, 0.0)[0])
    worst = torch.where(is_positive, torch.stack(scores).amin(0), torch.stack(scores).amax(0))
    assert torch.where(is_positive, bound <= worst, bound >= worst).all()
    exact = score_bounds(model, x, is_positive, 0.0, method=method, positive=positive)
    torch.testing.assert_close(exact, decide(logits_of(model, x), positive, 0.0)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_largest_eps_is_certified_and_a_little_more_is_not(method):
    model, x = net(4), images(5)
    y = predicted(model, x)
    y[0] = (y[0] + 1) % 3
    largest = largest_certified_eps(model, x, y, method=method, tolerance=0.01 / 255)
    assert largest[0] == 0
    assert (largest[1:] > 0).all()
    assert (margin_bounds(model, x[1:], y[1:], largest[1:], method=method) > 0).all()
    assert (margin_bounds(model, x, y, largest + 0.01 / 255, method=method) <= 0).all()


def test_an_image_that_no_pixels_can_move_is_certified_everywhere():
    model, (x, y) = fused().eval(), small_batch()
    with torch.no_grad():
        model.box_bias.fill_(3.0)
    x = with_boxes(x, y)[0]
    largest = largest_certified_eps(model, x[-1:], torch.tensor([1]))
    assert largest.tolist() == [1.0]
    bound = margin_bounds(model, x[-1:], torch.tensor([1]), 1.0).item()
    assert 1.5 - 1e-4 < bound < 1.5 + 1.5


@pytest.mark.parametrize("make", [fused, fused_ensemble])
@pytest.mark.parametrize("method", METHODS)
def test_fused_models_are_certified_within_the_bound_of_the_pixels(make, method):
    model, (x, y) = make().eval(), small_batch()
    x, y = with_boxes(x, y)
    logits = logits_of(model, x).double()
    gap = (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None]))[:, 0]
    for eps in (0.0, 2 / 255, 1.0):
        margin = margin_bounds(model, x, y, eps, method=method)
        assert (margin <= gap).all()
        assert (margin >= gap - 3.0).all()
    torch.testing.assert_close(margin_bounds(model, x, y, 0.0, method=method), gap, atol=1e-4, rtol=0)


def test_the_model_is_left_as_it_is():
    model, x = net(5).train(), images(2)
    before = snapshot(model)
    for method in METHODS:
        margin_bounds(model, x, torch.tensor([0, 1]), 0.1, method=method)
    assert snapshot(model) == before


def test_batches_of_any_size_give_the_same_margins(monkeypatch):
    model, x, y = net(6), images(7), torch.arange(7) % 3
    eps = torch.linspace(0, 0.1, 7)
    whole = margin_bounds(model, x, y, eps)
    monkeypatch.setattr("mirst.bounds.certify.PIXELS", 72)
    torch.testing.assert_close(margin_bounds(model, x, y, eps), whole, rtol=1e-12, atol=1e-12)
    assert math.isclose(margin_bounds(model, x[3:4], y[3:4], float(eps[3])).item(), whole[3].item(), abs_tol=1e-12)


def test_bounds_that_overflow_certify_nothing():
    model = net(7).double()
    with torch.no_grad():
        model[0].weight.fill_(1e308)
    assert not (margin_bounds(model, images(2).double(), torch.tensor([0, 1]), 0.1) > 0).any()


class Noisy(nn.Module):
    def forward(self, x):
        return x.flatten(1) + torch.rand_like(x.flatten(1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": Noisy()}, "returns different logits"),
        ({"model": net().half()}, "float16"),
        ({"method": "crwn"}, "did you mean crown"),
        ({"eps": -0.1}, "eps is -0.1"),
        ({"eps": math.nan}, "eps is nan"),
        ({"threshold": 0.5, "positive": 1}, "threshold is 0.5 with 3 classes"),
        ({"y": torch.tensor([0, 3])}, "the labels run from 0 to 3"),
        ({"x": images(2) + 3}, "must lie in"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change, said):
    given = {"model": net(), "x": images(2), "y": torch.tensor([0, 1]), "eps": 0.1} | change
    with pytest.raises(MirstError, match=said) as error:
        margin_bounds(**given)
    assert "\n" not in str(error.value)
