import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirst.nn.accelerate.folded_batch_norms import folded
from mirst.nn.accelerate.separable_max_pool import can_separate, separate
from mirst.random_draws import seeded


def separated(*geometry, **options):
    pool = nn.MaxPool2d(*geometry, **options)
    assert can_separate(pool)
    separate(pool)
    return pool


def drawn(*shape, layout=torch.contiguous_format):
    """Few different values, so that many pixels of a window tie."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(0)).float().to(memory_format=layout)


@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_the_output_is_that_of_torch(kernel, stride, data):
    padding = tuple(data.draw(st.integers(0, (k - 1) // 2)) for k in kernel)
    height, width = (data.draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True))
    layout = data.draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    x = drawn(2, 3, height, width, layout=layout)
    before = x.clone()
    pooled, wanted = separated(kernel, stride, padding)(x), F.max_pool2d(x, kernel, stride, padding)
    assert torch.equal(pooled, wanted)
    assert torch.equal(x, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(value):
    for row, column in itertools.product(range(6), range(7)):
        x = drawn(1, 1, 6, 7)
        x[0, 0, row, column] = value
        torch.testing.assert_close(
            separated(3, 2, 1)(x), F.max_pool2d(x, 3, 2, 1), rtol=0, atol=0, equal_nan=True
        )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3])
def test_images_smaller_than_the_window(size):
    x = drawn(2, 3, size, 5)
    assert torch.equal(separated(7, 1, 3)(x), F.max_pool2d(x, 7, 1, 3))


def test_a_window_that_does_not_fit_is_an_error_as_in_torch():
    for pool in (separated(3), partial(F.max_pool2d, kernel_size=3)):
        with pytest.raises(RuntimeError):
            pool(drawn(1, 1, 2, 2))


def test_a_gradient_is_that_of_torch():
    x = drawn(2, 3, 8, 9)
    grads = []
    for pool in (separated(3, 2, 1), partial(F.max_pool2d, kernel_size=3, stride=2, padding=1)):
        images = x.clone().requires_grad_(True)
        y = pool(images)
        grads.append(torch.autograd.grad(y, images, drawn(*y.shape))[0])
    assert torch.equal(*grads)


@pytest.mark.parametrize("double", [False, True])
def test_three_axes_and_double_precision(double):
    x = drawn(3, 8, 9).to(torch.float64 if double else torch.float32)
    assert torch.equal(separated(3, 2, 1)(x), F.max_pool2d(x, 3, 2, 1))
    assert torch.equal(separated(2)(x[None]), F.max_pool2d(x[None], 2))


def test_the_layout_stays():
    pooled = separated(3, 2, 1)(drawn(2, 4, 8, 8, layout=torch.channels_last))
    assert pooled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(3, dilation=2),
        nn.MaxPool2d(3, ceil_mode=True),
        nn.MaxPool2d(3, return_indices=True),
        type("Mine", (nn.MaxPool2d,), {})(3),
    ],
)
def test_other_pools_are_left_alone(pool):
    assert not can_separate(pool)
    assert "forward" not in vars(folded(nn.Sequential(pool))[0])


def test_a_pool_with_a_hook_is_left_alone():
    pool = nn.MaxPool2d(3)
    pool.register_forward_hook(lambda layer, given, out: out + 1)
    assert not can_separate(pool)


def test_the_copy_of_a_model_pools_so_and_the_model_does_not():
    with seeded(0, torch.device("cpu")):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.LazyLinear(2)).eval()
        model(torch.rand(1, 1, 16, 16))
    copy = folded(model)
    assert "forward" in vars(copy[1])
    assert "forward" not in vars(model[1])
    x = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(copy(x), model(x))
