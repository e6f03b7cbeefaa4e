"""The baselines against brute force, PGD, scikit-learn and torch."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from mirst.attacks import PGD
from mirst.evaluation.baselines import C, LinearBaseline, fit_baseline, thumbnails

EPS = 5 / 255


@pytest.fixture(scope="module")
def lesions():
    """60 images with two channels, some pixels black or white, and boxes that tell the classes apart in part."""
    rng = np.random.default_rng(0)
    is_positive = np.arange(60) % 3 == 0
    images = np.clip(rng.normal(0.5, 0.3, (60, 2, 20, 32)), 0, 1)
    images[is_positive, 0, :5, :9] *= 0.7
    boxes = rng.normal(0, 1, (60, 2)) + is_positive[:, None]
    return images, boxes, is_positive


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    eps=st.sampled_from([0.0, 0.01, EPS, 0.3, 1.0]),
    edge=st.floats(0, 1),
)
def test_no_vertex_of_the_ball_is_worse_and_one_is_as_bad(seed, eps, edge):
    rng = np.random.default_rng(seed)
    images = np.clip(rng.uniform(-edge, 1 + edge, (2, 1, 2, 3)), 0, 1)
    weights = rng.normal(size=(1, 2, 3)) * rng.integers(0, 2, (1, 2, 3))
    baseline = LinearBaseline(weights, rng.normal(size=2), float(rng.normal()), np.zeros(2))
    boxes, is_positive = rng.normal(size=(2, 2)), np.array([True, False])
    score, linf = baseline.worst_case(images, boxes, is_positive, eps)
    for number, worst in ((0, min), (1, max)):
        vertices = [
            np.clip(images[number].ravel() + eps * np.array(signs), 0, 1) for signs in product((-1, 1), repeat=6)
        ]
        reached = [
            sum(v * w for v, w in zip(vertex, weights.ravel(), strict=True))
            + float(boxes[number] @ baseline.box)
            + baseline.intercept
            for vertex in vertices
        ]
        assert score[number] == pytest.approx(worst(reached), abs=1e-12)
    assert (linf <= eps + 1e-12).all()


def as_network(baseline, box):
    """A torch model with the logits 0 and the log-odds, for images of one box."""
    linear = nn.Linear(baseline.pixels.size, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(baseline.pixels.size), torch.tensor(baseline.pixels).flatten()]))
        linear.bias.copy_(torch.tensor([0.0, box @ baseline.box + baseline.intercept]))
    return nn.Sequential(nn.Flatten(), linear).eval()


def test_pgd_reaches_the_worst_case_and_does_not_exceed_it(lesions):
    images, boxes, is_positive = lesions
    boxes = np.tile(boxes[:1], (len(boxes), 1))
    baseline = fit_baseline(images, boxes, is_positive, thumbnail=True, box=False)
    network, x, y = as_network(baseline, boxes[0]), torch.tensor(images).float(), torch.tensor(is_positive).long()
    attacked = PGD(eps=EPS, steps=20, step_size=EPS / 4)(network, x, y)
    score, _ = baseline.worst_case(images, boxes, is_positive, EPS)
    with torch.no_grad():
        logits = network(attacked)
    assert torch.allclose(logits[:, 1] - logits[:, 0], torch.tensor(score).float(), atol=1e-3)
    assert ((score > 0) != is_positive).sum() > ((baseline.score(images, boxes) > 0) != is_positive).sum()


@pytest.mark.parametrize(("thumbnail", "box"), [(True, False), (False, True), (True, True)])
def test_without_eps_the_fit_is_scikit_learns(lesions, thumbnail, box):
    images, boxes, is_positive = lesions
    blocks = adaptive_avg_pool2d(torch.tensor(images), 8).flatten(1).numpy()
    features = np.hstack([part for part, used in ((blocks, thumbnail), (boxes, box)) if used])
    oracle = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", C=C, tol=1e-10, max_iter=9999))
    expected = oracle.fit(features, is_positive).decision_function(features)
    baseline = fit_baseline(images, boxes, is_positive, thumbnail=thumbnail, box=box)
    assert np.abs(baseline.score(images, boxes) - expected).max() < 1e-4
    assert (baseline.pixels.any(), baseline.box.any()) == (thumbnail, box)


@pytest.mark.parametrize("eps", [0.01, EPS])
def test_with_eps_the_fit_minimises_the_loss_of_the_worst_case(lesions, eps):
    """The loss is convex: at its minimum the slope is 0 along each weight, and 0 is between the slopes on both sides
    of a weight that is 0. The loss is written in torch, with the exact worst case of each pixel."""
    images, boxes, is_positive = lesions
    images = torch.tensor(0.25 + 0.5 * images[:, :, 4:])  # no pixel is close to 0 or 1, and blocks are 2 x 4 pixels
    fitted = fit_baseline(images.numpy(), boxes, is_positive, thumbnail=True, box=True, eps=eps)
    blocks = torch.tensor(fitted.pixels).unfold(1, 2, 2).unfold(2, 4, 4).sum((-1, -2))
    y = torch.tensor(np.where(is_positive, 1.0, -1.0))
    share = torch.where(y > 0, 0.5 / is_positive.mean(), 0.5 / (1 - is_positive.mean()))
    scale = torch.hstack([adaptive_avg_pool2d(images, 8).flatten(1), torch.tensor(boxes)]).std(0, correction=0)

    def loss(weights):
        pixels = (weights[:-3].reshape(2, 8, 8) / 8).repeat_interleave(2, 1).repeat_interleave(4, 2)
        attacked = images - eps * y[:, None, None, None] * pixels.detach().sign()
        score = (attacked * pixels).sum((1, 2, 3)) + torch.tensor(boxes) @ weights[-3:-1] + weights[-1]
        return C * (share * nn.functional.softplus(-y * score)).sum() + 0.5 * ((weights[:-1] * scale) ** 2).sum()

    weights = torch.hstack([blocks.flatten(), torch.tensor([*fitted.box, fitted.intercept])])
    is_zero = weights.abs() < 1e-9
    assert 0 < is_zero.sum() < len(weights) - 3  # as with every penalty on absolute values
    above, below = (
        slope(loss, torch.where(is_zero, side, weights)) / torch.hstack([scale, torch.ones(1)])
        for side in (1e-9, -1e-9)
    )
    assert (above[~is_zero].abs() < 1e-4).all()
    assert ((below < 1e-4) & (above > -1e-4))[is_zero].all()


def slope(function, at):
    at = at.clone().requires_grad_()
    function(at).backward()
    return at.grad


def test_training_on_the_worst_case_helps_in_the_worst_case(lesions):
    images, boxes, is_positive = lesions
    right = {}
    for eps in (0.0, EPS):
        baseline = fit_baseline(images, boxes, is_positive, thumbnail=True, box=True, eps=eps)
        score, _ = baseline.worst_case(images, boxes, is_positive, EPS)
        right[eps] = ((score > 0) == is_positive).mean()
    assert right[EPS] > right[0.0]


@pytest.mark.parametrize("side", [8, 20, 64, 67])
def test_thumbnails_are_those_of_torch(side):
    images = np.random.default_rng(side).random((3, 2, side, side + 5))
    assert np.allclose(thumbnails(images), adaptive_avg_pool2d(torch.tensor(images), 8).numpy())


def test_a_box_that_is_not_known_counts_as_the_mean_box(lesions):
    images, boxes, is_positive = lesions
    some = boxes.copy()
    some[::7] = np.nan
    baseline = fit_baseline(images, some, is_positive, thumbnail=False, box=True)
    mean = np.nanmean(some, axis=0)
    assert np.allclose(baseline.score(images, some)[::7], mean @ baseline.box + baseline.intercept)
    none = fit_baseline(images, np.full_like(boxes, np.nan), is_positive, thumbnail=True, box=True)
    assert np.isfinite(none.score(images, boxes)).all()


def test_no_attack_on_pixels_changes_the_box(lesions):
    images, boxes, is_positive = lesions
    baseline = fit_baseline(images, boxes, is_positive, thumbnail=False, box=True)
    score, linf = baseline.worst_case(images, boxes, is_positive, 1.0)
    assert (score == baseline.score(images, boxes)).all()
    assert not linf.any()
