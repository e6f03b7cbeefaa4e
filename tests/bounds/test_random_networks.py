"""Random networks of every kind of layer: no image that an attack visits lies below a bound."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirst.bounds import METHODS, margin_bounds, score_bounds
from mirst.nn import DropMax2d
from tests.bounds.helpers import images

SIZE = 7
ACTIVATIONS = [
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.ReLU6,
    lambda: nn.LeakyReLU(0.3, inplace=True),
    lambda: nn.LeakyReLU(0.0),
    lambda: nn.Hardtanh(-0.1, 0.7),
    nn.Tanh,
    nn.Sigmoid,
    nn.ELU,
    lambda: nn.ELU(0.2, inplace=True),
    nn.SELU,
    lambda: nn.CELU(3.0),
]


class Residual(nn.Module):
    """Adds in place, to a value with two names."""

    def __init__(self, body, after):
        super().__init__()
        self.body, self.after = body, after

    def forward(self, x):
        out = same = self.body(x)
        out += x
        return self.after(same)


class Twice(nn.Module):
    """One module that is used twice."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(F.relu(self.body(x)))


class Joined(nn.Module):
    """Two paths, one subtracted from the input and both joined, scaled and clipped."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.gain = nn.Parameter(torch.randn(2, 1, 1))

    def forward(self, x):
        y = self.body(x)
        joined = torch.cat([x - 0.3, (x - y) * self.gain], 1)
        return F.pad(joined, (1, 0, 0, 1)).clamp(-0.6, 0.9)[:, :, :-1, 1:]


@st.composite
def convolutions(draw, width, out=None):
    kernel, dilation = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2]))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    same = out is not None or draw(st.booleans())
    return nn.Conv2d(
        width,
        out or draw(st.sampled_from([2, 4])),
        kernel,
        stride=1 if same else draw(st.sampled_from([1, 2])),
        padding="same" if same else draw(st.integers(0, 1)),
        dilation=dilation if same else 1,
        groups=draw(st.sampled_from([1, 2])),
        bias=draw(st.booleans()),
        padding_mode=mode,
    )


@st.composite
def pools(draw):
    kernel, stride, padding = (
        draw(st.sampled_from([2, 3, (2, 3)])),
        draw(st.sampled_from([1, 2])),
        draw(st.integers(0, 1)),
    )
    ceil, counted = draw(st.booleans()), draw(st.booleans())
    size = draw(st.sampled_from([1, 2, 3, (3, 2), (None, 2)]))
    return draw(
        st.sampled_from(
            [
                nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil),
                nn.MaxPool2d(2, stride, padding, dilation=2, ceil_mode=ceil),
                DropMax2d(kernel, stride, 0),
                DropMax2d(3, stride, padding),
                nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=counted),
                nn.AdaptiveMaxPool2d(size),
                nn.AdaptiveAvgPool2d(size),
            ]
        )
    )


def norm(width, affine):
    layer = nn.BatchNorm2d(width, affine=affine)
    layer.running_mean.normal_(0, 0.3)
    layer.running_var.uniform_(0.05, 2)
    if affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.3)
    return layer


@st.composite
def networks(draw):
    torch.manual_seed(draw(st.integers(0, 2**16)))
    layers, width = [nn.Conv2d(1, 2, 2, padding=1)], 2
    for kind in draw(st.lists(st.sampled_from(["conv", "norm", "act", "residual", "twice", "joined"]), max_size=5)):
        act = draw(st.sampled_from(ACTIVATIONS))()
        body = draw(convolutions(width, out=width))
        if kind == "conv":
            layers.append(draw(convolutions(width)))
            width = layers[-1].out_channels
        elif kind == "joined" and width == 2:
            layers.append(Joined(nn.Sequential(body, act)))
            width = 4
        else:
            layers.append(
                {
                    "norm": norm(width, draw(st.booleans())),
                    "act": act,
                    "twice": Twice(body),
                }.get(kind, Residual(body, nn.Sequential(norm(width, True), act)))
            )
    layers += [draw(pools()), nn.Dropout2d(0.4), nn.Flatten()]
    if draw(st.booleans()):
        layers += [nn.Hardtanh(-0.4, 0.4)]
    body = nn.Sequential(*layers).eval()
    classes = draw(st.sampled_from([2, 3]))
    with torch.no_grad():
        features = body(images(1, SIZE)).shape[1]
    return (
        nn.Sequential(*layers, nn.Linear(features, classes))
        .to(draw(st.sampled_from([torch.float32, torch.float64])))
        .eval()
    )


def margins(model, x, y):
    logits = model(x.clone().to(next(model.parameters()).dtype))
    own = logits.gather(1, y[:, None])
    return (own - logits.scatter(1, y[:, None], -torch.inf)).amin(1)


def visited(model, x, y, eps):
    """Random corners of the ball, and what signed steps from there reach."""
    generator, model = torch.Generator().manual_seed(0), copy.deepcopy(model)
    for layer in model.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False  # torch differentiates no chain of operations in place
    for _ in range(4):
        now = (x + eps * (torch.rand(x.shape, generator=generator) * 2 - 1).sign()).clamp(0, 1)
        for _ in range(4):
            yield now
            now = now.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(margins(model, now, y).sum(), now)
            now = (now.detach() - eps * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(model=networks(), eps=st.sampled_from([0.0, 1e-6, 1 / 255, 5 / 255, 0.2, 1.0]))
def test_no_image_that_an_attack_visits_lies_below_a_bound(model, eps):
    x, y = images(3, SIZE), torch.tensor([0, 1, 1])
    bounds = {name: margin_bounds(model, x, y, eps, method=name) for name in METHODS}
    scores = score_bounds(model, x, y == 1, eps)
    sign = y * 2 - 1
    least, lowest = torch.full((3,), torch.inf).double(), torch.full((3,), torch.inf).double()
    for image in visited(model, x, y, eps):
        with torch.no_grad():
            least = torch.minimum(least, margins(model, image, y).double())
            logits = model(image.clone().to(next(model.parameters()).dtype)).double()
        others = torch.cat([logits[:, :1], logits[:, 2:]], 1)
        lowest = torch.minimum(lowest, sign * (logits[:, 1] - others.logsumexp(1)))
    for bound in bounds.values():
        assert (bound <= least).all()
        assert bound.isfinite().all()
    assert (bounds["interval"] <= bounds["crown"] + 1e-12).all()
    assert (sign * scores <= lowest + 1e-12).all()
    if eps == 0:
        assert (least - bounds["interval"]).max() < 1e-2
