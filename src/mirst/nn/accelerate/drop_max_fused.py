"""Drop-max as one compiled pass, in about the time of max-pool and at any order of derivative."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mirst.nn.accelerate.switch import is_optimized
from mirst.nn.layers.windows import Windows, take

LARGEST_WINDOW = 256
"""Pixels: the place in a window is stored in one byte."""


class Kernels(Protocol):
    """What `drop_max_cpu` and `drop_max_triton` offer. All tensors are contiguous `(planes, H, W, C)`.

    A place is the number of the chosen pixel in its window, row by row, as uint8.
    """

    def pool(self, x: Tensor, values: Tensor, places: Tensor, windows: Windows) -> None:
        """Fill `values` and `places` with the second largest value of each window of `x` and its place."""

    def scatter(self, gradient: Tensor, places: Tensor, out: Tensor, windows: Windows) -> None:
        """Fill `out`, of the shape of `x` in `pool`, with the gradient that each pixel receives."""


def fused_drop_max(x: Tensor, windows: Windows) -> Tensor | None:
    """`drop_max2d` of `x` by a compiled kernel, in the memory format of `x`; `None` where there is no such kernel.

    There is none in `reference_mode`, while torch compiles or traces, for subclasses of `Tensor`, for types other
    than float32 and float64, for windows of more than `LARGEST_WINDOW` pixels, and without numba (CPU) or Triton (GPU).
    """
    return _fused(x, windows) if _has_kernel(x, windows) else None


def _has_kernel(x: Tensor, windows: Windows) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and is_optimized()
        and type(x) in (Tensor, nn.Parameter)
        and x.dtype in (torch.float32, torch.float64)
        and windows.kernel[0] * windows.kernel[1] <= LARGEST_WINDOW
        and kernels_for(x.device.type) is not None
    )


def _fused(x: Tensor, windows: Windows) -> Tensor:
    if x.ndim != 4:
        pooled = _fused(x.reshape(1, x.shape[:-2].numel(), *x.shape[-2:]), windows)
        return pooled.view(*x.shape[:-2], *pooled.shape[-2:])
    if x.requires_grad and torch.is_grad_enabled():
        return _Pool.apply(x, windows)  # type: ignore[no-any-return, no-untyped-call]
    return _pool(x, windows)[0]


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: Windows) -> Tensor:
        values, places = _pool(x, windows)
        ctx.save_for_backward(places)
        ctx.shape, ctx.windows = x.shape, windows
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of higher order may follow
            return _Scatter.apply(gradient, places, ctx.shape, ctx.windows), None  # type: ignore[no-untyped-call]
        return _scatter(gradient, places, ctx.shape, ctx.windows), None


class _Scatter(torch.autograd.Function):
    """The backward pass of `_Pool`. It is linear: its own backward pass gathers from where it scattered to."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, places: Tensor, shape: torch.Size, windows: Windows) -> Tensor:
        ctx.save_for_backward(places)
        ctx.windows = windows
        return _scatter(gradient, places, shape, windows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        windows: Windows = ctx.windows
        places = _images(ctx.saved_tensors[0], gradient.shape).long()
        padded = windows.pad(gradient, 0.0)
        corners = windows.corners(gradient.shape[2], gradient.shape[3], gradient.device)
        row, column = places // windows.kernel[1], places % windows.kernel[1]
        return take(padded, corners + row * padded.shape[-1] + column), None, None, None


def _pool(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Values in the memory format of `x`, places as planes."""
    channels_last = x.shape[1] > 1 and x.stride(1) == 1
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (*x.shape[:2], *windows.counts(*x.shape[2:]))
    values = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)  # no view: it may change in place
    planes = _planes(values, channels_last)
    places = torch.empty_like(planes, dtype=torch.uint8)
    _require_kernels(x).pool(_planes(x, channels_last), planes, places, windows)
    return values, places


def _scatter(gradient: Tensor, places: Tensor, shape: torch.Size, windows: Windows) -> Tensor:
    planes, _, _, channels = places.shape
    out = gradient.new_empty((planes, *shape[2:], channels))
    _require_kernels(gradient).scatter(_planes(gradient, channels > 1), places, out, windows)
    return _images(out, shape)


def _planes(x: Tensor, channels_last: bool) -> Tensor:
    """`x` `(N, C, H, W)` as contiguous `(N, H, W, C)` if channels last, else as `(N * C, H, W, 1)`."""
    if channels_last:
        return x.permute(0, 2, 3, 1).contiguous()
    return x.reshape(-1, *x.shape[2:], 1).contiguous()


def _images(planes: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_planes`, with the first two axes of `shape`."""
    if planes.shape[-1] > 1:
        return planes.permute(0, 3, 1, 2)
    return planes.view(*shape[:2], *planes.shape[1:3])


@cache
def kernels_for(device: str) -> Kernels | None:
    """The kernels for a device type, `cpu` or `cuda`; `None` if their compiler is not installed."""
    compiler, module = {"cpu": ("numba", "drop_max_cpu"), "cuda": ("triton", "drop_max_triton")}.get(device, ("", ""))
    if not compiler or find_spec(compiler) is None:
        return None
    kernels: Any = import_module(f"mirst.nn.accelerate.{module}")
    return kernels  # type: ignore[no-any-return]


def _require_kernels(x: Tensor) -> Kernels:
    kernels = kernels_for(x.device.type)
    assert kernels is not None, "_has_kernel was not asked"
    return kernels
