"""The pass of a training step equals the plain one, with fewer operations."""

import pytest
import torch

from mirst.bounds.boxes import Box
from mirst.bounds.graph import trace
from mirst.bounds.interval import margins, run
from mirst.bounds.training import run_training
from mirst.nn import build_model, reference_mode
from tests.helpers import ensemble, fused, seeded, small_cnn, with_boxes, without_dropout

MODELS = {
    "small_cnn": lambda: without_dropout(small_cnn()),
    "resnet_tiny": lambda: build_model("resnet_tiny", 1, 2),
    "resnet_tiny with drop-max": lambda: build_model("resnet_tiny", 1, 2, drop_max=True),
    "cnn_small": lambda: build_model("cnn_small", 1, 2),
    "resnet18": lambda: build_model("resnet18", 1, 2),
    "fused": fused,
    "ensemble": ensemble,
}


def made(name, mode):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[name]().double().train(mode)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return model


def images(name):
    x, y = torch.rand(4, 1, 32, 32, generator=seeded(1), dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    return (with_boxes(x, y)[0], y) if name == "fused" else (x, y)


def results(passed, name, mode):
    """Clean logits, margins, running statistics and the gradients of a loss of both."""
    model, (x, y) = made(name, mode), images(name)
    lower, upper = (x - 0.01).clamp(0, 1), (x + 0.01).clamp(0, 1)
    record = passed(trace(model), x, lower, upper)
    clean, margin = record.box(-1).clean, margins(record, y)
    (clean.square().sum() + margin.square().sum()).backward()
    return [clean, margin, *model.buffers(), *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", MODELS)
def test_it_equals_the_plain_pass(name, mode):
    def plain(program, x, lower, upper):
        return run(program, Box.between(lower, upper, x))

    for one, other in zip(results(run_training, name, mode), results(plain, name, mode), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8 * float(other.detach().abs().max().clamp(min=1)))


def test_in_reference_mode_it_is_the_plain_pass():
    (x, _), model = images("cnn_small"), made("cnn_small", True)
    with reference_mode():
        record = run_training(trace(model), x, x, x)
    assert all(box is not None for box in record.boxes)
    record = run_training(trace(model), x, x, x)
    assert any(box is None for box in record.boxes)  # those before a batch norm
