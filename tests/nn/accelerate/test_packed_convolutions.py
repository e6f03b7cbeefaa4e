"""Packed convolutions against torch's own."""

import copy
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirst.nn import reference_mode
from mirst.nn.accelerate.packed_convolutions import can_pack, pack, packed


def conv2d(*args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Conv2d(*args, **kwargs)


def fixed(*args, **kwargs):
    return conv2d(*args, **kwargs).requires_grad_(False)


def packed_copy(conv):
    again = copy.deepcopy(conv)
    pack(again)
    return again


def answer_and_gradients(layer, x, outer):
    x = x.clone().requires_grad_()
    answer = layer(x)
    wanted = [x, *(p for p in layer.parameters() if p.requires_grad)]
    return answer.detach(), *torch.autograd.grad((answer * outer).sum(), wanted)


@settings(max_examples=80, deadline=None)
@given(
    inputs=st.sampled_from([1, 3, 4, 5, 16]),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.integers(1, 4),
    padding=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    size=st.tuples(st.integers(7, 20), st.integers(7, 20)),
    bias=st.booleans(),
    last=st.booleans(),
    trained=st.booleans(),
)
def test_answers_and_gradients_equal_torchs(inputs, kernel, stride, padding, size, bias, last, trained):
    padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    conv = conv2d(inputs, 6, kernel, stride=stride, padding=padding, bias=bias).requires_grad_(trained)
    assert can_pack(conv)
    ours = packed_copy(conv)
    for batch in (3, 2):  # the second one meets weights that were sorted for the first
        x = torch.rand(batch, inputs, *size)
        x = x.to(memory_format=torch.channels_last) if last else x
        outer = torch.rand_like(conv(x))
        for a, b in zip(answer_and_gradients(ours, x, outer), answer_and_gradients(conv, x, outer), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "conv",
    [
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


def test_hooks_are_heard():
    conv, heard = fixed(3, 4, 3), []
    conv.register_forward_hook(lambda *_: heard.append(True))
    pack(conv)
    conv(torch.rand(1, 3, 8, 8))
    assert heard


def test_inside_packed_and_not_after_it():
    model = nn.Sequential(conv2d(3, 4, 3), nn.ReLU(), conv2d(4, 4, 3, groups=2))
    before = dict(model.state_dict())
    with packed(model):
        assert "forward" in vars(model[0])
        assert "forward" not in vars(model[2])
        assert model.state_dict().keys() == before.keys()
    assert "forward" not in vars(model[0])
    with torch.no_grad():
        model[0].weight.zero_()
    assert not model[0](torch.rand(1, 3, 8, 8)).sub(model[0].bias[:, None, None]).any()


def test_not_when_speed_ups_are_off():
    conv = conv2d(3, 4, 3)
    with reference_mode(), packed(conv):
        assert "forward" not in vars(conv)


def test_a_packed_layer_is_gone_with_its_last_reference():
    conv = fixed(3, 4, 3)
    pack(conv)
    seen = weakref.ref(conv)
    del conv
    assert seen() is None


def test_other_types_pass_through_the_convolution_itself():
    conv = packed_copy(fixed(3, 4, 3))
    with pytest.raises(RuntimeError, match="double"):
        conv(torch.rand(1, 3, 8, 8).double())
    torch.testing.assert_close(conv(torch.rand(3, 8, 8)).shape, (4, 6, 6))


def test_a_second_derivative_is_refused():
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(packed_copy(fixed(3, 4, 3))(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_weight_that_changes_after_packing_counts(stride):
    conv, x = fixed(6, 6, 3, stride=stride), torch.rand(2, 6, 9, 9)
    pack(conv)
    before = conv(x)
    with torch.no_grad():
        conv.weight.neg_()
    torch.testing.assert_close(conv(x), 2 * conv.bias[:, None, None] - before, rtol=1e-4, atol=1e-4)
    other = torch.rand_like(conv.weight)
    swapped = torch.func.functional_call(conv, {"weight": other}, (x,))
    torch.testing.assert_close(swapped, nn.functional.conv2d(x, other, conv.bias, stride), rtol=1e-4, atol=1e-4)
