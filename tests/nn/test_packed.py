"""Packed convolutions against torch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirst.nn.packed import PackedConv2d, can_pack


def fixed(*args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Conv2d(*args, **kwargs).requires_grad_(False)


def answer_and_gradient(layer, x, outer):
    x = x.clone().requires_grad_()
    answer = layer(x)
    return answer.detach(), *torch.autograd.grad((answer * outer).sum(), x)


@settings(max_examples=80, deadline=None)
@given(
    inputs=st.sampled_from([1, 3, 4, 5, 16]),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.integers(1, 4),
    padding=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    size=st.tuples(st.integers(7, 20), st.integers(7, 20)),
    bias=st.booleans(),
    last=st.booleans(),
)
def test_answers_and_gradients_equal_torchs(inputs, kernel, stride, padding, size, bias, last):
    padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    conv = fixed(inputs, 6, kernel, stride=stride, padding=padding, bias=bias)
    assert can_pack(conv)
    packed = PackedConv2d(conv)
    for batch in (3, 2):  # the second one meets weights that were sorted for the first
        x = torch.rand(batch, inputs, *size)
        x = x.to(memory_format=torch.channels_last) if last else x
        outer = torch.rand_like(conv(x))
        for ours, theirs in zip(
            answer_and_gradient(packed, x, outer), answer_and_gradient(conv, x, outer), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 4, 3),
        fixed(4, 4, 3, groups=2),
        fixed(3, 4, 3, dilation=2),
        fixed(3, 4, 3, padding="same"),
        fixed(3, 4, 3, padding=1, padding_mode="reflect"),
        fixed(3, 4, 3, stride=(1, 2)),
        fixed(3, 4, 1, padding=1),
        fixed(3, 4, 3).double(),
    ],
    ids=str,
)
def test_what_is_out_of_the_ordinary_is_left_alone(conv):
    assert not can_pack(conv)


def test_what_is_listened_to_is_left_alone():
    conv = fixed(3, 4, 3)
    assert can_pack(conv)
    conv.register_forward_hook(lambda *_: None)
    assert not can_pack(conv)


def test_other_types_pass_through_the_convolution_itself():
    packed = PackedConv2d(fixed(3, 4, 3))
    with pytest.raises(RuntimeError, match="double"):
        packed(torch.rand(1, 3, 8, 8).double())
    torch.testing.assert_close(packed(torch.rand(3, 8, 8)).shape, (4, 6, 6))


def test_a_second_derivative_is_refused():
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(PackedConv2d(fixed(3, 4, 3))(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
