"""Which operations each function and method of torch consists of, in a forward that torch.fx traced."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mirst.bounds.operations import (
    Average,
    Convolution,
    Dense,
    Elementwise,
    OrderStatistic,
    Rearrangement,
    Scale,
    Sum,
    constant,
)
from mirst.bounds.rules import LIBRARY, area, pixels
from mirst.bounds.values import Arguments, Batch, Builder, Constant, Ref, Refused, Shape, Value
from mirst.bounds.windows import adaptive, sliding
from mirst.errors import MirstError
from mirst.nn.layers.drop_max import drop_max2d

Rule = Callable[[Builder, Arguments, str], Value]


def _plus(sign: int) -> Rule:
    def rule(to: Builder, given: Arguments, name: str) -> Value:
        x, y, alpha = given.named("input", "other", "alpha", alpha=1)
        if alpha != 1:
            raise Refused("alpha")
        if isinstance(x, Ref) and isinstance(y, Ref):
            return to.add(Sum(name, sign), x, y)
        if isinstance(x, Ref):
            return to.add(Scale(name, shift=lambda: sign * _tensor(y)), x)
        scaled = y if sign == 1 else to.add(Scale(name, lambda: torch.tensor(-1.0)), y)
        return to.add(Scale(name, shift=lambda: _tensor(x)), scaled)

    return rule


def _times(to: Builder, given: Arguments, name: str) -> Value:
    x, y = given.named("input", "other")
    if isinstance(x, Ref) and isinstance(y, Ref):
        raise Refused("both factors depend on the image")
    x, factor = (x, y) if isinstance(x, Ref) else (y, x)
    return to.add(Scale(name, lambda: _tensor(factor)), x)


def _divided(to: Builder, given: Arguments, name: str) -> Value:
    x, divisor = given.named("input", "other")
    if not isinstance(x, Ref) or isinstance(divisor, Ref):
        raise Refused("the divisor depends on the image")
    return to.add(Scale(name, lambda: 1 / _tensor(divisor).double()), x)


def _negated(to: Builder, given: Arguments, name: str) -> Value:
    (x,) = given.named("input")
    return to.add(Scale(name, lambda: torch.tensor(-1.0)), x)


def _tensor(value: Any) -> Tensor:
    return constant(value.read() if isinstance(value, Constant) else value)()


def _increasing(function: Callable[..., Tensor], convex: bool = False, ulps: int = 0) -> Rule:
    def rule(to: Builder, given: Arguments, name: str) -> Value:
        x, _ = given.named("input", "inplace", inplace=False)
        return to.add(Elementwise(name, function, convex, ulps), x)

    return rule


def _leaky_relu(to: Builder, given: Arguments, name: str) -> Value:
    x, slope, _ = given.named("input", "negative_slope", "inplace", negative_slope=0.01, inplace=False)
    if not 0 <= slope <= 1:
        raise Refused("a negative slope outside of [0, 1]")
    return to.add(Elementwise(name, lambda v: F.leaky_relu(v, slope), convex=True, ulps=1), x)


def _clamped(to: Builder, given: Arguments, name: str) -> Value:
    x, low, high = given.named("input", "min", "max", min=None, max=None)
    if isinstance(low, Ref) or isinstance(high, Ref) or isinstance(low, Constant) or isinstance(high, Constant):
        raise Refused("an end that is not a number")
    return to.add(Elementwise(name, lambda v: v.clamp(low, high), ulps=1), x)


def _dropout(to: Builder, given: Arguments, name: str) -> Value:
    x, _, training, _ = given.named("input", "p", "training", "inplace", p=0.5, training=True, inplace=False)
    if training:
        raise Refused("it draws at random")
    return x  # type: ignore[no-any-return]


def _convolution(to: Builder, given: Arguments, name: str) -> Value:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    x, weight, bias, *geometry = given.named(*names, bias=None, stride=1, padding=0, dilation=1, groups=1)
    if isinstance(weight, Ref) or isinstance(bias, Ref):
        raise Refused("its weight depends on the image")
    shift = None if bias is None else lambda: _tensor(bias)
    return to.add(Convolution(name, lambda: _tensor(weight), shift, tuple(geometry)), x)


def _linear(to: Builder, given: Arguments, name: str) -> Value:
    x, weight, bias = given.named("input", "weight", "bias", bias=None)
    if isinstance(weight, Ref) or isinstance(bias, Ref):
        raise Refused("its weight depends on the image")
    return to.add(Dense(name, lambda: _tensor(weight), None if bias is None else lambda: _tensor(bias)), x)


def _max_pool(to: Builder, given: Arguments, name: str) -> Value:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    defaults = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
    x, *geometry, indices = given.named(*names, **defaults)
    if indices:
        raise Refused("return_indices")
    return to.add(OrderStatistic(name, lambda v: F.max_pool2d(v, *geometry), 1, sliding(*geometry)), x)


def _drop_max(to: Builder, given: Arguments, name: str) -> Value:
    x, *geometry = given.named("x", "kernel_size", "stride", "padding", stride=None, padding=0)
    return to.add(OrderStatistic(name, lambda v: drop_max2d(v, *geometry), 2, sliding(*geometry)), x)


def _adaptive_max_pool(to: Builder, given: Arguments, name: str) -> Value:
    x, size, indices = given.named("input", "output_size", "return_indices", return_indices=False)
    if indices:
        raise Refused("return_indices")
    return to.add(OrderStatistic(name, lambda v: F.adaptive_max_pool2d(v, size), 1, adaptive(size)), x)


def _average(to: Builder, given: Arguments, name: str) -> Value:
    names = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    defaults = {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True, "divisor_override": None}
    x, *geometry, divisor = given.named(*names, **defaults)
    if divisor:
        raise Refused("divisor_override")
    return to.add(Average(name, lambda v: F.avg_pool2d(v, *geometry), lambda v: area(geometry[0])), x)


def _adaptive_average(to: Builder, given: Arguments, name: str) -> Value:
    x, size = given.named("input", "output_size")
    return to.add(Average(name, lambda v: F.adaptive_avg_pool2d(v, size), pixels), x)


def _mean(to: Builder, given: Arguments, name: str) -> Value:
    x, axes, keepdim = given.named("input", "dim", "keepdim", keepdim=False)
    axes = [axes] if isinstance(axes, int) else list(axes)

    def count(v: Tensor) -> int:
        return math.prod(v.shape[axis] for axis in axes)

    return to.add(Average(name, lambda v: v.mean(_within(v, axes), keepdim), count), x)


def _within(x: Tensor, axes: list[int]) -> list[int]:
    """`axes`, none of which may be that of the batch. How many axes `x` has is known only now."""
    if any(axis % x.ndim == 0 for axis in axes):
        raise MirstError(
            "a mean, flattening or concatenation joins the images of a batch, which has no bounds; join within images"
        )
    return axes


def _reshaped(to: Builder, given: Arguments, name: str) -> Value:
    x, *shape = given.positional
    sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    batch, *rest = sizes
    if not (batch == -1 or isinstance(batch, Batch)) or not all(isinstance(size, int) for size in rest):
        raise Refused("its first size must be that of the batch, and the others numbers")
    return to.add(Rearrangement(name, lambda v: v.reshape(len(v), *rest)), x)


def _flattened(to: Builder, given: Arguments, name: str) -> Value:
    x, start, end = given.named("input", "start_dim", "end_dim", start_dim=0, end_dim=-1)
    return to.add(Rearrangement(name, lambda v: v.flatten(*_within(v, [start]), end)), x)


def _moved(function: Callable[..., Tensor]) -> Rule:
    """Functions that move values of each image, and neither join nor mix images."""

    def rule(to: Builder, given: Arguments, name: str) -> Value:
        x, rest, keywords = _first_alone(given)
        return to.add(Rearrangement(name, lambda v: function(v, *rest, **keywords)), x)

    return rule


def _first_alone(given: Arguments) -> tuple[Ref, tuple[Any, ...], dict[str, Any]]:
    keywords = dict(given.keywords)
    x, rest = (given.positional[0], given.positional[1:]) if given.positional else (keywords.pop("input", None), ())
    if not isinstance(x, Ref) or len(given.refs()) != 1 or given.depend_on_shape():
        raise Refused("its other arguments must be numbers")
    return x, rest, keywords


def _joined(to: Builder, given: Arguments, name: str) -> Value:
    parts, axis = given.named("tensors", "dim", dim=0)
    if not all(isinstance(part, Ref) for part in parts):
        raise Refused("it joins values with constants")
    return to.add(Rearrangement(name, lambda *v: torch.cat(v, *_within(v[0], [axis]))), *parts)


def _padded(to: Builder, given: Arguments, name: str) -> Value:
    x, sides, mode, value = given.named("input", "pad", "mode", "value", mode="constant", value=None)
    if value:
        raise Refused("padding with another constant than 0")
    return to.add(Rearrangement(name, lambda v: F.pad(v, sides, mode)), x)


def _item(to: Builder, given: Arguments, name: str) -> Value:
    x, index = given.positional
    if isinstance(x, Shape):
        if index != 0:
            raise Refused("only the number of images can be used, no other size")
        return Batch()
    whole = isinstance(index, tuple) and index and index[0] in (slice(None), ...)
    if not whole or not all(isinstance(part, int | slice | type(...)) for part in index):
        raise Refused("it must keep all images, as in x[:, ...]")
    return to.add(Rearrangement(name, lambda v: v[_of_images(v, index)]), x)


def _of_images(x: Tensor, index: tuple[Any, ...]) -> tuple[Any, ...]:
    """`index`, which must keep all images also if it begins with an ellipsis."""
    if len(index) > x.ndim:
        raise MirstError(f"the index {index} selects images of a batch, which has no bounds; select within images")
    return index


def _attribute(to: Builder, given: Arguments, name: str) -> Value:
    if given.positional[1] != "shape":
        raise Refused(f"attribute {given.positional[1]}")
    return Shape()


def _size(to: Builder, given: Arguments, name: str) -> Value:
    _, axis = given.named("input", "dim", dim=None)
    if axis not in (None, 0):
        raise Refused("only the number of images can be used, no other size")
    return Shape() if axis is None else Batch()


def _copied(to: Builder, given: Arguments, name: str) -> Value:
    (x,) = given.named("input")
    return to.add(Rearrangement(name, torch.clone), x)


RELU = _increasing(F.relu, convex=True)
FUNCTIONS: dict[Any, Rule] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _plus(1)),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _plus(-1)),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _times),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _divided),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _negated),
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), RELU),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), _increasing(torch.sigmoid, ulps=LIBRARY)),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh"), _increasing(torch.tanh, ulps=LIBRARY)),
    **dict.fromkeys((torch.clamp, "clamp"), _clamped),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.flatten, "flatten"), _flattened),
    **dict.fromkeys((torch.reshape, "reshape", "view"), _reshaped),
    **dict.fromkeys((torch.cat, torch.concat), _joined),
    "contiguous": _moved(Tensor.contiguous),
    **dict.fromkeys((torch.clone, "clone"), _copied),
    F.relu6: _increasing(F.relu6),
    F.leaky_relu: _leaky_relu,
    F.dropout: _dropout,
    F.dropout2d: _dropout,
    F.conv2d: _convolution,
    F.linear: _linear,
    F.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    F.adaptive_max_pool2d: _adaptive_max_pool,
    drop_max2d: _drop_max,
    F.avg_pool2d: _average,
    F.adaptive_avg_pool2d: _adaptive_average,
    F.pad: _padded,
    F.pixel_unshuffle: _moved(F.pixel_unshuffle),
    operator.getitem: _item,
    getattr: _attribute,
    "size": _size,
}
