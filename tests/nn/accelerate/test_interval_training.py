"""The layers of a step on interval bounds equal torch's operations, forwards and backwards."""

import pytest
import torch
from torch import nn

from mirst.nn.accelerate import interval_training
from mirst.nn.accelerate.interval_training import box_sums, interval_relu, scaled_batch_norm
from tests.helpers import seeded

SHAPES = [(7,), (4, 6), (3, 4, 5, 5)]


@pytest.fixture(params=[1, 2], ids=["kernel", "torch"])
def _threads(request):
    """The kernels run in one thread; with two, torch's operations do the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def box(shape, dtype=torch.float64):
    generator = seeded(2)
    centre = torch.randn(shape, generator=generator, dtype=torch.float64)
    radius = torch.rand(shape, generator=generator, dtype=torch.float64)
    return centre.to(dtype).requires_grad_(), radius.to(dtype).requires_grad_()


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [interval_relu, box_sums])
def test_their_gradients_are_those_of_finite_differences(function, shape):
    assert torch.autograd.gradcheck(function, box(shape))


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_relu_of_a_box_is_that_of_its_ends(shape, dtype):
    (centre, radius), (same_centre, same_radius) = box(shape, dtype), box(shape, dtype)
    middle, width = interval_relu(centre, radius)
    low, high = (same_centre - same_radius).relu(), (same_centre + same_radius).relu()
    torch.testing.assert_close(middle, (low + high) / 2)
    torch.testing.assert_close(width, (high - low) / 2)
    weight = torch.randn(shape, generator=seeded(3)).to(dtype)
    ((middle * weight).sum() + (width * weight.cos()).sum()).backward()
    ((low + high) / 2 * weight + (high - low) / 2 * weight.cos()).sum().backward()
    torch.testing.assert_close(centre.grad, same_centre.grad)
    torch.testing.assert_close(radius.grad, same_radius.grad)


@pytest.mark.parametrize("function", [interval_relu, box_sums])
def test_the_kernel_does_not_depend_on_the_memory_format(function):
    centre, radius = (side.detach() for side in box((3, 4, 5, 5)))
    last = centre.contiguous(memory_format=torch.channels_last)
    for one, other in zip(function(centre, radius), function(last, radius), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("_threads")
def test_the_sums_are_those_of_a_loop():
    centre, radius = box((3, 4, 5, 5))
    values = list(zip(centre.flatten().tolist(), radius.flatten().tolist(), strict=True))
    active, inactive = [c for c, r in values if c - r > 0], [c for c, r in values if c + r < 0]
    assert active
    assert inactive
    expected = [sum(c for c, _ in values), sum(r for _, r in values)]
    for chosen in (active, inactive):
        expected += [len(chosen), sum(chosen), sum(c * c for c in chosen)]
    assert box_sums(centre, radius).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_batch_norm_is_that_of_torch_and_follows_as_it_does(kind, momentum):
    shape = (6, 4) if kind is nn.BatchNorm1d else (6, 4, 3, 3)
    ours, theirs = (kind(4, momentum=momentum).double().train() for _ in range(2))
    for _ in range(2):
        x = torch.randn(shape, generator=seeded(4), dtype=torch.float64)
        y, scale, shift = scaled_batch_norm(x, ours)
        torch.testing.assert_close(y, theirs(x))
        by_channel = (1, -1, *[1] * (x.ndim - 2))
        torch.testing.assert_close(y, scale.view(by_channel) * x + shift.view(by_channel))
    for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2, 2)])
def test_the_gradients_of_batch_norm_flow_through_its_scale_and_shift(shape):
    layer = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(4).double().train()
    weight = torch.rand(4, generator=seeded(5), dtype=torch.float64) + 0.5

    def function(x, weight, bias):
        given = type(layer)(4).double().train()
        del given.weight, given.bias
        given.weight, given.bias = weight, bias
        return scaled_batch_norm(x, given)

    inputs = torch.randn(shape, generator=seeded(6), dtype=torch.float64), weight, torch.rand(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(function, tuple(value.requires_grad_() for value in inputs))


def test_without_numba_the_boxes_are_the_same(monkeypatch):
    torch.set_num_threads(1)
    centre, radius = torch.randn(2, 3, 5, 5, generator=seeded(0)), torch.rand(2, 3, 5, 5, generator=seeded(1))
    with_numba = (*interval_relu(centre, radius), box_sums(centre, radius))
    monkeypatch.setattr(interval_training, "find_spec", lambda _: None)
    interval_training.kernels.cache_clear()
    without = (*interval_relu(centre, radius), box_sums(centre, radius))
    assert interval_training.kernels() is None
    monkeypatch.undo()
    interval_training.kernels.cache_clear()
    for own, other in zip(without, with_numba, strict=True):
        torch.testing.assert_close(own, other)
