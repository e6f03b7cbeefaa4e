"""Small networks, and slow transcriptions of bounds in exact arithmetic."""

from fractions import Fraction
from itertools import product

import numpy as np
import torch
from torch import nn

from mirst.nn import DropMax2d

Exact = np.ndarray
"""Of `Fraction`s."""


def exact(tensor):
    """The numbers of a tensor as fractions."""
    values = tensor.detach().double().numpy()
    return np.vectorize(Fraction, otypes=[object])(values)


def exact_interval(layers, low, high):
    """Rational interval arithmetic, layer by layer, on one image `(C, H, W)` of fractions."""
    for layer in layers:
        low, high = _exact_layer(layer, low, high)
    return low, high


def exact_at(layers, x):
    return exact_interval(layers, x, x)[0]


def _exact_layer(layer, low, high):
    match layer:
        case nn.ReLU():
            return np.maximum(low, 0), np.maximum(high, 0)
        case nn.Flatten():
            return low.ravel(), high.ravel()
        case nn.Linear():
            return _exact_linear(exact(layer.weight), exact(layer.bias), low, high)
        case nn.Conv2d():
            return _exact_conv(layer, low, high)
        case nn.BatchNorm2d():
            return _exact_norm(layer, low, high)
        case nn.MaxPool2d():
            return _exact_pool(layer, low, 1), _exact_pool(layer, high, 1)
        case DropMax2d():
            return _exact_pool(layer, low, 2), _exact_pool(layer, high, 2)
        case nn.AdaptiveAvgPool2d():
            size = low.shape[1] * low.shape[2]
            return tuple((end.sum((1, 2)) / size)[:, None, None] for end in (low, high))
    raise AssertionError(layer)


def _exact_linear(weight, bias, low, high):
    up, down = np.maximum(weight, 0), np.minimum(weight, 0)
    return up.dot(low) + down.dot(high) + bias, up.dot(high) + down.dot(low) + bias


def _exact_conv(layer, low, high):
    weight, (stride, pad) = exact(layer.weight), (layer.stride[0], layer.padding[0])
    bias = exact(layer.bias) if layer.bias is not None else np.full(len(weight), Fraction(0))
    low, high = (np.pad(end, ((0, 0), (pad, pad), (pad, pad)), constant_values=Fraction(0)) for end in (low, high))
    side = layer.kernel_size[0]
    rows, columns = ((size - side) // stride + 1 for size in low.shape[1:])
    ends = np.empty((2, len(weight), rows, columns), dtype=object)
    for i, j in product(range(rows), range(columns)):
        at = (slice(None), slice(i * stride, i * stride + side), slice(j * stride, j * stride + side))
        ends[0, :, i, j], ends[1, :, i, j] = _exact_linear(
            weight.reshape(len(weight), -1), bias, low[at].ravel(), high[at].ravel()
        )
    return ends[0], ends[1]


def _exact_norm(layer, low, high):
    """With a standard deviation that is a fraction: variances whose sum with eps is a square."""
    deviation = np.array(
        [Fraction(v).limit_denominator(10**6) for v in (layer.running_var + layer.eps).sqrt().tolist()]
    )
    factor = exact(layer.weight) / deviation
    shift = exact(layer.bias) - exact(layer.running_mean) * factor
    factor, shift = factor[:, None, None], shift[:, None, None]
    return np.minimum(factor * low, factor * high) + shift, np.maximum(factor * low, factor * high) + shift


def _exact_pool(layer, x, rank):
    side, stride, pad = layer.kernel_size, layer.stride, layer.padding
    rows, columns = ((size + 2 * pad - side) // stride + 1 for size in x.shape[1:])
    out = np.empty((len(x), rows, columns), dtype=object)
    for c, i, j in product(range(len(x)), range(rows), range(columns)):
        top, left = i * stride - pad, j * stride - pad
        inside = [
            x[c, a, b]
            for a, b in product(range(top, top + side), range(left, left + side))
            if 0 <= a < x.shape[1] and 0 <= b < x.shape[2]
        ]
        out[c, i, j] = sorted(inside)[-rank]
    return out


def net(seed=0, pool=None, classes=3, norm=True, size=6):
    """A small convolutional net in eval mode, its layers in a row. Batch norms have exact square roots."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [
            nn.Conv2d(1, 3, 3, padding=1),
            *([nn.BatchNorm2d(3, eps=0.25)] if norm else []),
            nn.ReLU(),
            *([] if pool is None else [pool]),
            nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, classes),
        ]
        model = nn.Sequential(*layers).eval()
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2)
                layer.running_var.copy_(torch.tensor([0.75, 0.0, 2.0]))
                nn.init.uniform_(layer.weight, -2, 2)
                nn.init.uniform_(layer.bias, -0.3, 0.3)
    return model


def images(count=4, size=6, seed=1, channels=1):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


POOLS = {
    "none": lambda: None,
    "max": lambda: nn.MaxPool2d(3, 2, 1),
    "drop_max": lambda: DropMax2d(3, 2, 1),
}
