"""Interval bounds and those of training, against slow transcriptions."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mirst.bounds import propagate, propagate_training, trace
from mirst.bounds.settled import settled
from mirst.nn import build_model
from tests.bounds.helpers import POOLS, exact, exact_interval, images, net
from tests.helpers import ensemble, fused, fused_ensemble, small_batch, small_cnn, with_boxes


@pytest.mark.parametrize("pool", POOLS)
def test_bounds_are_those_of_exact_interval_arithmetic(pool):
    model, x = net(1, POOLS[pool]()), images(2).double()
    low, high = propagate(trace(model), x - 0.02, x + 0.02)
    for k in range(2):
        ends = exact_interval(model, exact(x[k] - 0.02), exact(x[k] + 0.02))
        for got, want in zip((low[k], high[k]), ends, strict=True):
            assert got.tolist() == pytest.approx([float(v) for v in want], abs=1e-12)


def slow_training(layers, clean, low, high):
    """Layer by layer with positive and negative weights; batch norm by the statistics of the clean images."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            call = _conv(layer) if isinstance(layer, nn.Conv2d) else F.linear
            up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
            bias = 0 if layer.bias is None else layer.bias.view(-1, *[1] * (clean.ndim - 2))
            clean = call(clean, layer.weight) + bias
            low, high = call(low, up) + call(high, down) + bias, call(high, up) + call(low, down) + bias
        elif isinstance(layer, nn.BatchNorm2d):
            mean, var = clean.mean((0, 2, 3), keepdim=True), clean.var((0, 2, 3), correction=0, keepdim=True)
            factor = layer.weight.view(-1, 1, 1) / (var + layer.eps).sqrt()
            clean, a, b = ((v - mean) * factor + layer.bias.view(-1, 1, 1) for v in (clean, low, high))
            low, high = torch.minimum(a, b), torch.maximum(a, b)
        else:
            clean, low, high = layer(clean), layer(low), layer(high)
    return clean, low, high


def _conv(layer):
    return lambda x, weight: F.conv2d(x, weight, None, layer.stride, layer.padding)


@pytest.mark.parametrize("pool", POOLS)
def test_training_equals_its_slow_transcription_with_its_gradients(pool):
    model = net(2, POOLS[pool](), size=6).double().train()
    x, y = images(5).double(), torch.tensor([0, 1, 2, 1, 0])
    low, high = (x - 0.05).clamp(0, 1), (x + 0.03).clamp(0, 1)
    clean, margins = propagate_training(trace(copy.deepcopy(model)), x, low, high, y)

    body, last = model[:-1], model[-1]
    slow_clean, a, b = slow_training(body, x, low, high)
    rows = last.weight[y][:, None] - last.weight[None]
    slow = (rows.clamp(min=0) * a[:, None] + rows.clamp(max=0) * b[:, None]).sum(2) + last.bias[y][:, None] - last.bias
    torch.testing.assert_close(clean, last(slow_clean))
    torch.testing.assert_close(margins, slow)
    assert (margins.gather(1, y[:, None]) == 0).all()

    program = trace(model)
    ours = propagate_training(program, x, low, high, y)
    gradients = torch.autograd.grad((ours.margins.sin() + ours.clean.cos()).sum(), list(model.parameters()))
    wanted = torch.autograd.grad((slow.sin() + last(slow_clean).cos()).sum(), list(model.parameters()))
    for got, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got, want)


MODELS = {
    "dropout": small_cnn, "fused": fused, "ensemble": ensemble, "fused_ensemble": fused_ensemble,
    "resnet_tiny": lambda: build_model("resnet_tiny", 1, 2), "resnet18": lambda: build_model("resnet18", 1, 2),
    "drop_max": lambda: build_model("resnet_tiny", 1, 2, drop_max=True),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_clean_pass_of_training_is_that_of_the_model(name):
    """Logits, running statistics and random draws."""
    model, (x, y) = MODELS[name](), small_batch()
    if "resnet" in name or name == "drop_max":
        x = F.interpolate(x, 32)
    x = with_boxes(x, y)[0] if "fused" in name else x
    twin = copy.deepcopy(model).train()
    torch.manual_seed(3)
    wanted = twin(x)
    torch.manual_seed(3)
    reach = torch.zeros_like(x)
    reach[:, :1] = 0.01
    clean, margins = propagate_training(trace(model.train()), x, x - reach, x + reach, y)
    torch.testing.assert_close(clean, wanted, atol=1e-4, rtol=1e-4)
    for got, want in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    gap = clean.gather(1, y[:, None]) - clean
    assert (margins <= gap + 1e-5).all()
    assert (margins < gap).any()


def test_margins_fold_the_difference_of_the_logits():
    """Two equal rows of the last layer have no margin at all, whatever the box."""
    model = net(3, classes=2)
    with torch.no_grad():
        model[-1].weight[1] = model[-1].weight[0]
        model[-1].bias.copy_(torch.tensor([0.5, 0.0]))
    x = images(2)
    margins = propagate_training(trace(model), x, x - 0.3, x + 0.3, torch.zeros(2, dtype=torch.long)).margins
    torch.testing.assert_close(margins[:, 1], torch.full((2,), 0.5))


def test_gradients_of_bounds_are_right():
    program, x = trace(net(4, norm=False).double()), images(2).double()
    ends = [(x + step).requires_grad_() for step in (-0.1, 0.1)]
    assert torch.autograd.gradcheck(lambda low, high: propagate(program, low, high), ends)


def test_a_box_that_reaches_the_box_code_is_refused():
    model, (x, y) = fused().eval(), small_batch()
    x = with_boxes(x, y)[0]
    with pytest.raises(ValueError, match="reaches the box code"):
        propagate(trace(model), x - 0.9, x + 0.9)


@pytest.mark.parametrize("name", MODELS)
def test_a_settled_program_has_the_same_bounds(name):
    model = MODELS[name]()
    if "resnet" not in name and name != "drop_max":
        x = with_boxes(*small_batch())[0] if "fused" in name else small_batch()[0]
    else:
        x = images(2, size=32)
        model(x)
    model.eval()
    x, reach = x.double(), torch.zeros_like(x, dtype=torch.float64)
    reach[:, :1] = 1e-3
    program = trace(model)
    wanted = propagate(program, x - reach, x + reach)
    shorter = settled(program)
    assert len(shorter.steps) == len(program.steps) - sum(
        isinstance(layer, nn.BatchNorm2d) for layer in model.modules()
    )
    for got, want in zip(propagate(shorter, x - reach, x + reach), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
