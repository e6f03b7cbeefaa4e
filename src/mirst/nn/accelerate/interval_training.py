"""The layers of a training step on interval bounds, in fewer passes over memory than torch's operations need."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mirst.nn.device import require_float64


def scaled_batch_norm(
    x: Tensor, layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
) -> tuple[Tensor, Tensor, Tensor]:
    """`layer`, in train mode and with weights, on `x`; and the scale and the shift, `(C,)` each, that it applied.

    All three are differentiable, once. The running statistics of the layer follow.

    >>> layer, x = nn.BatchNorm1d(3), torch.rand(8, 3)
    >>> y, scale, shift = scaled_batch_norm(x, layer)
    >>> torch.allclose(y, scale * x + shift, atol=1e-6)
    True
    """
    momentum = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        momentum = 1 / float(layer.num_batches_tracked) if momentum is None else momentum
    running = layer.running_mean, layer.running_var
    out: tuple[Tensor, Tensor, Tensor] = _BatchNorm.apply(  # type: ignore[no-untyped-call]
        x, layer.weight.to(x), layer.bias.to(x), *running, momentum or 0.0, layer.eps
    )
    return out


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, centre, inverse = torch.native_batch_norm(x, weight, bias, mean, var, True, momentum, eps)
        ctx.save_for_backward(x, weight, centre, inverse)
        ctx.eps = eps
        scale = weight * inverse
        return y, scale, bias - centre * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor, of_scale: Tensor, of_shift: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, centre, inverse = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            of_y, x, weight, None, None, centre, inverse, True, ctx.eps, [True, True, True]
        )
        of_scale = of_scale - of_shift * centre
        # scale and shift depend on x through its mean and its inverse deviation: a linear function of each value
        slope = -of_scale * weight * inverse**3 / (x.numel() // x.shape[1])
        constant = -of_shift * weight * inverse / (x.numel() // x.shape[1]) - slope * centre
        shape = (-1, *[1] * (x.ndim - 2))
        of_x.addcmul_(x, slope.view(shape)).add_(constant.view(shape))
        return of_x, of_weight + of_scale * inverse, of_bias + of_shift, None, None, None, None


def interval_relu(centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius of the box of `relu(v)`, `v` within `radius` of `centre`, of the same shape.

    Differentiable once, with gradient 0 where an end of the box is at most 0.

    >>> interval_relu(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
    (tensor([0.5000, 2.0000]), tensor([0.5000, 1.0000]))
    """
    out: tuple[Tensor, Tensor] = _IntervalRelu.apply(centre, radius)  # type: ignore[no-untyped-call]
    return out


class _IntervalRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        radius = _laid_out_like(centre, radius)
        ctx.save_for_backward(centre, radius)
        if _has_kernel(centre):
            middle, width = torch.empty_like(centre), torch.empty_like(centre)
            kernels().relu(*map(_flat, (centre, radius, middle, width)))
            return middle, width
        low, high = (centre - radius).clamp_(min=0), (centre + radius).clamp_(min=0)
        return (high + low) / 2, (high - low) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_middle: Tensor, of_width: Tensor) -> tuple[Tensor, Tensor]:
        centre, radius = ctx.saved_tensors
        of_middle, of_width = (_laid_out_like(centre, gradient) for gradient in (of_middle, of_width))
        if _has_kernel(centre):
            of_centre, of_radius = torch.empty_like(centre), torch.empty_like(centre)
            kernels().relu_backward(*map(_flat, (centre, radius, of_middle, of_width, of_centre, of_radius)))
            return of_centre, of_radius
        of_low = torch.where(centre - radius > 0, (of_middle - of_width) / 2, 0.0)
        of_high = torch.where(centre + radius > 0, (of_middle + of_width) / 2, 0.0)
        return of_high + of_low, of_high - of_low


def box_sums(centre: Tensor, radius: Tensor) -> Tensor:
    """Sums over the values of a box, `(8,)` in float64, differentiable once.

    Returns:
        The sum of the centres and of the radii; over the values above 0 in all of the box, their number, and the sum of
        their centres and of the squares of these; and the same over the values below 0 in all of the box.

    >>> box_sums(torch.tensor([3.0, 0.0, -2.0, -4.0]), torch.ones(4)).tolist()
    [-3.0, 4.0, 1.0, 3.0, 9.0, 2.0, -6.0, 20.0]
    """
    require_float64(centre.device)
    if _has_kernel(centre):
        out: Tensor = _BoxSums.apply(centre, radius)  # type: ignore[no-untyped-call]
        return out
    parts = [centre.sum(dtype=torch.float64), radius.sum(dtype=torch.float64)]
    for chosen in (centre > radius, -centre > radius):
        values = torch.where(chosen, centre, 0.0)
        parts += [chosen.sum(dtype=torch.float64), values.sum(dtype=torch.float64), values.double().square().sum()]
    return torch.stack(parts)


class _BoxSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> Tensor:
        radius = _laid_out_like(centre, radius)
        ctx.save_for_backward(centre, radius)
        out = torch.empty(8, dtype=torch.float64)
        kernels().sums(_flat(centre), _flat(radius), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        centre, radius = ctx.saved_tensors
        of_centre, of_radius = torch.empty_like(centre), torch.empty_like(centre)
        of_sums = tuple(gradient.to(centre.dtype).numpy()[[0, 1, 3, 4, 6, 7]])  # the numbers of values have none
        kernels().sums_backward(_flat(centre), _flat(radius), of_sums, _flat(of_centre), _flat(of_radius))
        return of_centre, of_radius


def _has_kernel(x: Tensor) -> bool:
    """Whether the compiled kernels run on `x`. They use one thread."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and torch.get_num_threads() == 1
        and kernels() is not None
    )


@cache
def kernels() -> Any:
    """The module of the kernels; `None` without numba."""
    if find_spec("numba") is None:
        return None
    return import_module("mirst.nn.accelerate.interval_cpu")  # numba takes half a second to import


def _laid_out_like(x: Tensor, other: Tensor) -> Tensor:
    """`other` in the memory format of `x`."""
    return other if other.stride() == x.stride() else torch.empty_like(x).copy_(other)


def _flat(x: Tensor) -> Any:
    """The values of `x` in the order of memory, as a numpy array; `x` is dense."""
    return x.detach().as_strided((x.numel(),), (1,)).numpy()
