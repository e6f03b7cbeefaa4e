"""Certificates hold in exact arithmetic, for the deployed float32 model, and under every attack."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirst.bounds import METHODS, margin_bounds, trace
from mirst.bounds.boxes import Box
from mirst.bounds.certify import EXCESS
from mirst.bounds.interval import run
from mirst.bounds.rounding import DOUBLE, Rounding
from mirst.evaluation.outcomes import TOLERANCE
from mirst.evaluation.suites import adaptive, paper, standard
from mirst.nn import build_model, replace_first_max_pool
from mirst.nn.logits import logits_of
from tests.bounds.helpers import POOLS, exact, exact_at, exact_interval, images, net
from tests.helpers import seeded, small_batch, small_cnn

SUITES = {
    "paper": lambda eps, model: paper(eps),
    "standard": lambda eps, model: standard(eps, 2),
    "adaptive": lambda eps, model: adaptive(eps, 2, model),
}
UNITS = {"float64": DOUBLE, "float32": 2.0**-24}


def logit_bounds(model, low, high, unit):
    with torch.no_grad():
        box = run(trace(model), Box.between(low, high), Rounding(unit)).box(-1)
    return box.parts()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("seed", range(3))
def test_bounds_contain_the_exact_rational_interval(pool, unit, seed):
    model, x, eps = net(seed, POOLS[pool]()), images(2, seed=seed).double(), 3 / 255
    low, high = logit_bounds(model, x - eps, x + eps, UNITS[unit])
    for k in range(len(x)):
        exact_low, exact_high = exact_interval(model, exact(x[k] - eps), exact(x[k] + eps))
        assert all(Fraction(b) <= e for b, e in zip(low[k].tolist(), exact_low, strict=True))
        assert all(Fraction(b) >= e for b, e in zip(high[k].tolist(), exact_high, strict=True))
        width = float(max(exact_high - exact_low))
        assert float((high[k] - low[k]).max()) < width * (1 + (1e-9 if unit == "float64" else 1e-3))


@pytest.mark.parametrize("pool", POOLS)
def test_without_slack_float64_alone_is_not_sound(pool):
    """The test above can fail: rounding does move bounds inwards."""
    inside = 0
    for seed in range(8):
        model, x, eps = net(seed, POOLS[pool]()).double(), images(2, seed=seed).double(), 3 / 255
        with torch.no_grad():
            low, high = run(trace(model), Box.between(x - eps, x + eps)).box(-1).parts()
        for k in range(len(x)):
            exact_low, exact_high = exact_interval(model, exact(x[k] - eps), exact(x[k] + eps))
            inside += sum(Fraction(b) > e for b, e in zip(low[k].tolist(), exact_low, strict=True))
            inside += sum(Fraction(b) < e for b, e in zip(high[k].tolist(), exact_high, strict=True))
    assert inside > 0


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e-3])
@pytest.mark.parametrize("pool", POOLS)
def test_bounds_of_a_point_contain_what_float32_computes(pool, scale):
    """Also with large terms that cancel, where float32 keeps few digits; and the exact value."""
    model = net(5, POOLS[pool]())
    with torch.no_grad():
        model[0].weight[:, :, 1] = scale
        model[0].weight[:, :, 2] = -scale
    x = images(16, seed=2)
    low, high = logit_bounds(model, x.double(), x.double(), 2.0**-24)
    with torch.no_grad():
        logits = model(x).double()
        in_parts = torch.cat([model(part) for part in x.split(1)]).double()
    assert ((low <= logits) & (logits <= high)).all()
    assert ((low <= in_parts) & (in_parts <= high)).all()
    value = exact_at(model, exact(x[0]))
    assert all(
        Fraction(a) <= v <= Fraction(b) for a, v, b in zip(low[0].tolist(), value, high[0].tolist(), strict=True)
    )


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(0, 0.6))
def test_margins_of_linear_models_are_the_least_over_all_vertices(method, seed, eps):
    torch.manual_seed(seed)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), torch.rand(1, 1, 2, 3)
    own = seed % 2
    weight, bias = exact(model[1].weight), exact(model[1].bias)
    row, shift = weight[own] - weight[1 - own], bias[own] - bias[1 - own]
    reach, pixels = Fraction(eps) + Fraction(TOLERANCE), exact(x).ravel()
    ends = [(max(Fraction(0), v - reach), min(Fraction(1), v + reach)) for v in pixels]
    least = min(row.dot(np.array(vertex)) + shift for vertex in product(*ends))
    bound = margin_bounds(model, x, torch.tensor([own]), eps, method=method).item()
    assert Fraction(bound) <= least
    assert bound > float(least) - 1e-4


def test_eps_covers_what_evaluation_tolerates():
    assert EXCESS >= TOLERANCE


@pytest.mark.parametrize("suite", SUITES)
def test_no_attack_beats_a_certificate(suite):
    model, (x, _), eps = replace_first_max_pool(small_cnn()).eval(), small_batch(), 10 / 255
    with torch.no_grad():
        model[-1].weight *= 20
        model[-1].bias -= model(x).mean(0)
        y = model(x).argmax(1)
    bounds = {method: margin_bounds(model, x, y, eps, method=method) for method in METHODS}
    smaller = margin_bounds(model, x, y, eps / 100)
    beaten = 0
    for attack in SUITES[suite](eps, model).attacks.values():
        logits = logits_of(model, attack(model, x, y, generator=seeded())).double()
        margin = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).amax(1)
        assert all((margin >= bound).all() for bound in bounds.values()), attack
        beaten += int((margin < 0).sum())
    assert beaten > 0
    assert (smaller > bounds["interval"]).all()
    assert (smaller > 0).any()


@pytest.mark.parametrize("drop_max", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_margins_of_a_residual_network_lie_below_those_of_random_and_signed_images(drop_max, method):
    torch.manual_seed(0)
    model = build_model("resnet_tiny", 1, 3, drop_max=drop_max)
    x, eps = images(4, size=32), 1e-4
    model(x)
    model.eval()
    with torch.no_grad():
        y = model(x).argmax(1)
    bound = margin_bounds(model, x, y, eps, method=method)
    steps = torch.rand(50, *x.shape) * 2 - 1
    steps[25:] = steps[25:].sign()
    for step in steps:
        with torch.no_grad():
            logits = model((x + eps * step).clamp(0, 1)).double()
        margin = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).amax(1)
        assert (margin >= bound).all()
