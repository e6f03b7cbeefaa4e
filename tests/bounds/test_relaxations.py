"""Each line lies on its side of the operation, and touches the interval of its output."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirst.bounds.graph import trace
from mirst.bounds.relaxations import lines, order_lines
from mirst.nn import DropMax2d
from tests.helpers import seeded

ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.7, 1.3), nn.LeakyReLU(0.2), nn.ELU(0.8), nn.SELU(), nn.CELU(1.7),
    nn.Sigmoid(), nn.Tanh(),
]  # fmt: skip
POOLS = [
    nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 2, ceil_mode=True), nn.MaxPool2d(2, 1, dilation=2),
    nn.AdaptiveMaxPool2d(3), nn.AdaptiveMaxPool2d((1, 4)), DropMax2d(2), DropMax2d(3, 2, 1), DropMax2d((1, 2)),
]  # fmt: skip


def operation_of(layer):
    return trace(nn.Sequential(layer)).steps[1].operation


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
@settings(max_examples=40, deadline=None)
@given(ends=st.tuples(st.floats(-8, 8), st.floats(-8, 8)))
def test_lines_enclose_the_function(layer, ends):
    low, high = (torch.tensor([end], dtype=torch.float64) for end in sorted(ends))
    below, above = lines(operation_of(layer), low, high)
    x = torch.linspace(float(low), float(high), 101, dtype=torch.float64)
    value = layer(x)
    assert (below[0] * x + below[1] <= value + 1e-12).all()
    assert (above[0] * x + above[1] >= value - 1e-12).all()
    assert float(above[0] * high + above[1]) == pytest.approx(float(layer(high)), abs=1e-9)


@pytest.mark.parametrize("layer", POOLS, ids=str)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.sampled_from([0.0, 0.1, 1.0]))
def test_lines_of_pools_enclose_them(layer, seed, width):
    draw = seeded(seed)
    low = torch.randn(2, 3, 5, 7, generator=draw, dtype=torch.float64).mul(4).round().div(4)  # many ties
    high = low + width * torch.rand(low.shape, generator=draw, dtype=torch.float64).mul(2).round()
    below, pixel_below, above, pixel_above = order_lines(operation_of(layer), low, high)
    least, greatest = layer(low).flatten(2), layer(high).flatten(2)

    def at(x, line, pixel):
        return line[0] * x.flatten(2).gather(2, pixel) + line[1]

    torch.testing.assert_close(at(low, below, pixel_below), least)  # the exact interval
    torch.testing.assert_close(at(high, above, pixel_above), greatest)
    for share in (0.0, 1.0, *torch.rand(10, generator=draw)):
        x = low + (high - low) * (share if share in (0, 1) else torch.rand(low.shape, generator=draw).double())
        value = layer(x).flatten(2)
        assert (at(x, below, pixel_below) <= value + 1e-12).all()
        assert (at(x, above, pixel_above) >= value - 1e-12).all()
    assert pixel_below.max() < 35
    assert pixel_above.max() < 35


def test_a_pixel_above_all_others_is_the_max_pool_itself():
    low, high = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    low[0, 0, 1, 0], high[0, 0, 1, 0] = 2.0, 3.0
    for line in (lambda r: r[:2], lambda r: r[2:]):
        (slope, intercept), pixel = line(order_lines(operation_of(nn.MaxPool2d(2)), low, high))
        assert (slope.item(), intercept.item(), pixel.item()) == (1.0, 0.0, 2)
