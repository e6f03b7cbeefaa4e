"""Which operations each layer of torch and mirst consists of."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirst.bounds.operations import (
    Average,
    BoxLogit,
    Convolution,
    Dense,
    Deviation,
    Dropped,
    Elementwise,
    Norm,
    Number,
    OrderStatistic,
    Rearrangement,
    Scale,
    Sum,
    constant,
)
from mirst.bounds.values import Builder, Ref, Refused
from mirst.bounds.windows import adaptive, sliding
from mirst.nn.box_fusion import BoxFusion
from mirst.nn.ensemble import Ensemble
from mirst.nn.layers.drop_max import DropMax2d

Rule = Callable[[Builder, Any, str, Ref], Ref]
LIBRARY = 8
"""Error of exponentials and what is made of them in torch, in units in the last place, with a margin."""


def _bias(layer: nn.Conv2d | nn.Linear) -> Number | None:
    return None if layer.bias is None else lambda: cast("Tensor", layer.bias)


def _convolution(to: Builder, layer: nn.Conv2d, name: str, x: Ref) -> Ref:
    padding: Any = layer.padding
    if layer.padding_mode != "zeros":
        sides = list(layer._reversed_padding_repeated_twice)
        x = to.add(Rearrangement(name, lambda v: F.pad(v, sides, mode=layer.padding_mode)), x)
        padding = 0
    geometry = (layer.stride, padding, layer.dilation, layer.groups)
    return to.add(Convolution(name, lambda: layer.weight, _bias(layer), geometry), x)


def _linear(to: Builder, layer: nn.Linear, name: str, x: Ref) -> Ref:
    return to.add(Dense(name, lambda: layer.weight, _bias(layer)), x)


def _norm(to: Builder, layer: nn.BatchNorm2d, name: str, x: Ref) -> Ref:
    return to.add(Norm(name, layer), x)


def _dropout(to: Builder, layer: nn.Module, name: str, x: Ref) -> Ref:
    return to.add(Dropped(name, layer), x)


def _identity(to: Builder, layer: nn.Module, name: str, x: Ref) -> Ref:
    return x


def _moved(to: Builder, layer: nn.Module, name: str, x: Ref) -> Ref:
    return to.add(Rearrangement(name, layer), x)


def _flatten(to: Builder, layer: nn.Flatten, name: str, x: Ref) -> Ref:
    if layer.start_dim < 1:
        raise Refused("it joins the images of a batch")
    return to.add(Rearrangement(name, layer), x)


def _average(to: Builder, layer: nn.AvgPool2d, name: str, x: Ref) -> Ref:
    if layer.divisor_override:
        raise Refused("divisor_override")
    return to.add(Average(name, layer, lambda v: area(layer.kernel_size)), x)


def _adaptive_average(to: Builder, layer: nn.AdaptiveAvgPool2d, name: str, x: Ref) -> Ref:
    return to.add(Average(name, layer, pixels), x)


def area(kernel: int | tuple[int, int]) -> int:
    """Pixels of a window."""
    return kernel**2 if isinstance(kernel, int) else math.prod(kernel)


def pixels(x: Tensor) -> int:
    """Pixels of an image."""
    return x.shape[-2] * x.shape[-1]


def _max_pool(to: Builder, layer: nn.MaxPool2d, name: str, x: Ref) -> Ref:
    if layer.return_indices:
        raise Refused("return_indices")
    windows = sliding(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)
    return to.add(OrderStatistic(name, layer, 1, windows), x)


def _adaptive_max_pool(to: Builder, layer: nn.AdaptiveMaxPool2d, name: str, x: Ref) -> Ref:
    if layer.return_indices:
        raise Refused("return_indices")
    return to.add(OrderStatistic(name, layer, 1, adaptive(layer.output_size)), x)


def _drop_max(to: Builder, layer: DropMax2d, name: str, x: Ref) -> Ref:
    windows = sliding(layer.kernel_size, layer.stride, layer.padding)
    return to.add(OrderStatistic(name, layer, 2, windows), x)


def _relu(to: Builder, layer: nn.ReLU, name: str, x: Ref) -> Ref:
    return to.add(Elementwise(name, F.relu, convex=True), x)


def _elementwise(convex: bool = False, ulps: int = 0, requires: Callable[[Any], bool] = lambda layer: True) -> Rule:
    def rule(to: Builder, layer: nn.Module, name: str, x: Ref) -> Ref:
        if not requires(layer):
            raise Refused("its settings make it other than increasing")
        return to.add(Elementwise(name, partial(pure, layer), convex, ulps), x)

    return rule


def pure(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`layer(x)`, where a layer that works in place keeps `x`."""
    return layer(x.clone() if getattr(layer, "inplace", False) else x)


def _fusion(to: Builder, fusion: BoxFusion, name: str, x: Ref) -> Ref:
    """`(-half, half)` of `half = (box logit + bound tanh(z / sd)) / 2`, the signs swapped for positive class 0."""
    sign = 1.0 if fusion.positive else -1.0
    box = to.add(BoxLogit(name, fusion), x)
    images = to.add(Rearrangement(name, lambda v: v[:, :-1]), x)
    logits = to.layer(fusion.pixels, f"{name}.pixels".lstrip("."), images)
    z = to.add(Dense(name, constant([[-sign, sign]]), folded=True), logits)
    bounded = to.add(Elementwise(name, torch.tanh, ulps=LIBRARY), to.add(Deviation(name, fusion), z))
    moved = to.add(Scale(name, constant(fusion.bound)), bounded)
    total = to.add(Sum(name), box, moved)
    return to.add(Dense(name, constant([[-sign / 2], [sign / 2]])), total)


def _ensemble(to: Builder, ensemble: Ensemble, name: str, x: Ref) -> Ref:
    def shifted(number: int, member: nn.Module) -> Ref:
        logits = to.layer(member, f"{name}.members.{number}".lstrip("."), x)
        return to.add(Scale(name, shift=lambda: -ensemble.shift[number]), logits)

    members = [shifted(number, member) for number, member in enumerate(ensemble.members)]
    stacked = to.add(Rearrangement(name, lambda *logits: torch.stack(logits, -1)), *members)
    return to.add(Average(name, lambda v: v.mean(-1), lambda v: v.shape[-1]), stacked)


LAYERS: dict[type[nn.Module], Rule] = {
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.Dropout: _dropout,
    nn.Dropout1d: _dropout,
    nn.Dropout2d: _dropout,
    nn.Identity: _identity,
    nn.Flatten: _flatten,
    nn.ZeroPad2d: _moved,
    nn.ReflectionPad2d: _moved,
    nn.ReplicationPad2d: _moved,
    nn.PixelUnshuffle: _moved,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _adaptive_average,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    DropMax2d: _drop_max,
    nn.ReLU: _relu,
    nn.ReLU6: _elementwise(),
    nn.Hardtanh: _elementwise(ulps=1),
    nn.LeakyReLU: _elementwise(convex=True, ulps=1, requires=lambda layer: 0 <= layer.negative_slope <= 1),
    nn.ELU: _elementwise(convex=True, ulps=LIBRARY, requires=lambda layer: 0 <= layer.alpha <= 1),
    nn.SELU: _elementwise(ulps=LIBRARY),
    nn.CELU: _elementwise(convex=True, ulps=LIBRARY, requires=lambda layer: layer.alpha > 0),
    nn.Sigmoid: _elementwise(ulps=LIBRARY),
    nn.Tanh: _elementwise(ulps=LIBRARY),
    BoxFusion: _fusion,
    Ensemble: _ensemble,
}
"""By the exact class: a subclass may compute something else."""
