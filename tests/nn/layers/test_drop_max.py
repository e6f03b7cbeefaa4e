import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.nn import DropMax2d, drop_max2d, reference_mode, replace_first_max_pool


def slow_drop_max(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Window by window, in plain Python: sort the valid pixels, take the last but one."""
    n, c, height, width = x.shape
    rows = range(-padding, height + padding - kernel + 1, stride)
    columns = range(-padding, width + padding - kernel + 1, stride)
    out = torch.empty(n, c, len(rows), len(columns), dtype=x.dtype)
    for image in range(n):
        for channel in range(c):
            for i, top in enumerate(rows):
                for j, left in enumerate(columns):
                    window = [
                        x[image, channel, a, b].item()
                        for a in range(max(top, 0), min(top + kernel, height))
                        for b in range(max(left, 0), min(left + kernel, width))
                    ]
                    out[image, channel, i, j] = sorted(window)[-2]
    return out


geometry = st.tuples(
    st.integers(2, 4),
    st.integers(1, 3),
    st.integers(0, 1),
    st.integers(5, 9),
    st.integers(5, 9),
    st.integers(0, 999),
).filter(lambda g: g[2] < g[0] / 2)


@given(geometry, st.booleans())
@settings(max_examples=60, deadline=None)
def test_values_equal_a_slow_reference(g, ties):
    kernel, stride, padding, height, width, seed = g
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 2, height, width, generator=generator)
    if ties:
        x = x.round()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        with reference_mode():
            pooled = drop_max2d(x.to(memory_format=memory_format), kernel, stride, padding)
        assert torch.equal(pooled, slow_drop_max(x, kernel, stride, padding))


@given(geometry)
@settings(max_examples=30, deadline=None)
def test_gradient_goes_to_the_chosen_pixel(g):
    kernel, stride, padding, height, width, seed = g
    generator = torch.Generator().manual_seed(seed)
    x = torch.randperm(2 * height * width, generator=generator).double().view(1, 2, height, width)
    x.requires_grad_()
    with reference_mode():
        pooled = drop_max2d(x, kernel, stride, padding)
    upstream = torch.randn(pooled.shape, generator=generator, dtype=torch.float64)
    pooled.backward(upstream)
    expected = torch.zeros_like(x)
    for value, weight in zip(pooled.detach().flatten(), upstream.flatten(), strict=True):
        expected += weight * (x.detach() == value)
    torch.testing.assert_close(x.grad, expected)


def test_first_and_second_derivatives():
    x = torch.randperm(49).double().view(1, 1, 7, 7).requires_grad_()
    with reference_mode():
        assert torch.autograd.gradcheck(lambda t: drop_max2d(t, 3, 2, 1), x)
        assert torch.autograd.gradgradcheck(lambda t: drop_max2d(t, 3, 2, 1) ** 3, x / 49)


def test_a_nan_is_never_dropped():
    """Its window becomes NaN, wherever it stands in it, and the gradient flows to the first one."""
    for place in range(9):
        x = torch.arange(9.0).roll(place)
        x[place] = torch.nan
        x = x.view(1, 1, 3, 3).requires_grad_()
        with reference_mode():
            pooled = drop_max2d(x, 3)
        assert pooled.isnan().all()
        (gradient,) = torch.autograd.grad(pooled, x)
        assert gradient.flatten().nonzero().item() == place


def test_two_equal_maxima_give_their_value():
    x = torch.tensor([[[[3.0, 3.0], [1.0, 2.0]]]])
    assert drop_max2d(x, 2).item() == 3.0


def test_pairs_and_default_stride():
    x = torch.randn(2, 3, 6, 8)
    assert drop_max2d(x, (2, 3), (3, 2), (0, 1)).shape == nn.functional.max_pool2d(x, (2, 3), (3, 2), (0, 1)).shape
    assert torch.equal(drop_max2d(x, 2), slow_drop_max(x, 2, 2, 0))
    assert torch.equal(drop_max2d(x[0], 2), slow_drop_max(x, 2, 2, 0)[0])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"), [(4, 1, 1, 0), (4, 2, 2, 1), (1, 3, 1, 1), (2, 3, 1, 0)]
)
def test_windows_without_two_pixels_are_refused(size, kernel, stride, padding):
    with pytest.raises(MirstError):
        drop_max2d(torch.zeros(1, 1, size, size), kernel, stride, padding)


def test_layer_equals_function_and_shows_its_geometry():
    x = torch.randn(1, 2, 8, 8)
    layer = DropMax2d(3, 2, 1)
    assert torch.equal(layer(x), drop_max2d(x, 3, 2, 1))
    assert repr(layer) == "DropMax2d(kernel_size=3, stride=2, padding=1)"


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2))
        self.alias = self.body[1]
        self.later = nn.MaxPool2d(2)

    def forward(self, x):
        return self.later(self.alias(x))


def test_replaces_the_first_pool_wherever_it_hangs_and_no_other():
    model = replace_first_max_pool(Shared())
    assert isinstance(model.body[1], DropMax2d)
    assert model.alias is model.body[1]
    assert isinstance(model.later, nn.MaxPool2d)
    assert isinstance(replace_first_max_pool(nn.MaxPool2d(2)), DropMax2d)


def test_what_cannot_be_replaced_is_refused():
    with pytest.raises(MirstError, match=r"has no nn\.MaxPool2d"):
        replace_first_max_pool(nn.Sequential(nn.Conv2d(1, 1, 3), nn.AvgPool2d(2)))
    for pool in (
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(2, return_indices=True),
    ):
        with pytest.raises(MirstError, match="cannot be replaced by drop-max"):
            replace_first_max_pool(nn.Sequential(pool))
