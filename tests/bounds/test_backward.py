"""Linear relaxation against a slow transcription with dense matrices."""

import pytest
import torch
from torch import nn

from mirst.bounds import trace
from mirst.bounds.backward import lower_bounds
from mirst.bounds.boxes import Box
from mirst.bounds.interval import run
from mirst.bounds.rounding import Rounding
from tests.bounds.helpers import POOLS, images, net
from tests.helpers import fused_ensemble, small_batch, with_boxes


def matrix_of(layer, shape):
    """The affine layer as a matrix and a vector, column by column."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    shift = layer(zero).flatten()
    units = torch.eye(zero.numel(), dtype=torch.float64).view(-1, *shape)
    return torch.stack([layer(unit[None]).flatten() - shift for unit in units], 1), shift


def slow_crown_ibp(layers, low, high, row):
    """Zhang et al. 2018, algorithm for the lower bound, with the interval bounds of each layer; one image."""
    relaxed = []
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            a, b = low.flatten(), high.flatten()
            over = torch.where(a >= 0, 1.0, torch.where(b <= 0, 0.0, b / (b - a))).double()
            shift = torch.where((a < 0) & (b > 0), -over * a, 0.0)
            under = (b > -a).double()
            relaxed.append((under, over, shift))
            low, high = layer(low[None])[0], layer(high[None])[0]
        else:
            weight, bias = matrix_of(layer, low.shape)
            out = layer(low[None])[0].shape
            centre, radius = (low + high).flatten() / 2, (high - low).flatten() / 2
            relaxed.append((weight, bias))
            low = (weight @ centre - weight.abs() @ radius + bias).view(out)
            high = (weight @ centre + weight.abs() @ radius + bias).view(out)
    total = 0.0
    for step in reversed(relaxed):
        if len(step) == 2:
            total, row = total + row @ step[1], row @ step[0]
        else:
            under, over, shift = step
            total = total + row.clamp(max=0) @ shift
            row = row.clamp(min=0) * under + row.clamp(max=0) * over
    return row, total


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.2])
def test_linear_relaxation_is_that_of_a_slow_transcription(norm, eps):
    model, x = net(3, norm=norm).double(), images(2).double()
    rows = torch.randn(2, 2, 3, dtype=torch.float64)
    record = run(trace(model), Box.between(x - eps, x + eps), keep=True)
    bounds = lower_bounds(record, len(model), rows, relax=True)
    for s in range(2):
        for k in range(2):
            row, total = slow_crown_ibp(model, x[k] - eps, x[k] + eps, rows[s, k])
            wanted = row @ x[k].flatten() - row.abs().sum() * eps + total
            assert bounds[s, k].item() == pytest.approx(wanted.item(), abs=1e-9)


@pytest.mark.parametrize("pool", POOLS)
def test_the_slack_for_rounding_only_lowers_bounds_and_by_little(pool):
    model, x = net(4, POOLS[pool]()).double(), images(3).double()
    rows = torch.randn(4, 3, 3, dtype=torch.float64)
    bounds = {}
    for unit in (None, 2.0**-53, 2.0**-24):
        rounding = None if unit is None else Rounding(unit)
        with torch.no_grad():
            record = run(trace(model), Box.between(x - 0.02, x + 0.02), rounding, keep=True)
            bounds[unit] = torch.stack([lower_bounds(record, len(model), rows, relax=relax) for relax in (True, False)])
    assert (bounds[2.0**-24] < bounds[2.0**-53]).all()
    assert (bounds[2.0**-53] < bounds[None]).all()
    assert (bounds[None] - bounds[2.0**-53]).max() < 1e-11
    assert (bounds[None] - bounds[2.0**-24]).max() < 1e-3


def test_linear_relaxation_is_differentiable():
    model, x = net(5, POOLS["drop_max"](), norm=False).double(), images(2).double()
    program, rows = trace(model), torch.randn(2, 2, 3, dtype=torch.float64)
    ends = [(x + step).requires_grad_() for step in (-0.05, 0.05)]

    def bounds(low, high):
        return lower_bounds(run(program, Box.between(low, high), keep=True), len(model), rows, relax=True)

    assert torch.autograd.gradcheck(bounds, ends)
    (gradient,) = torch.autograd.grad(bounds(*ends).sum(), model[0].weight)
    assert gradient.abs().max() > 0


def test_the_relaxation_of_fused_ensembles_lies_below_their_logits():
    model, (x, y) = fused_ensemble().eval().double(), small_batch()
    x = with_boxes(x.double(), y)[0].double()
    reach = torch.zeros_like(x)
    reach[:, :1] = 0.05
    program = trace(model)
    rows = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)[:, None].expand(-1, len(x), -1)
    with torch.no_grad():
        record = run(program, Box.between(x - reach, x + reach), keep=True)
        bounds = lower_bounds(record, len(program.steps) - 1, rows, relax=True)
        for seed in range(20):
            step = images(len(x), size=16, seed=seed).double() * 2 - 1
            logits = model(torch.cat([x[:, :1] + 0.05 * step.sign(), x[:, 1:]], 1))
            assert (bounds <= torch.einsum("snk,nk->sn", rows, logits)).all()
