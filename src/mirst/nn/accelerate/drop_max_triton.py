"""`mirst.nn.accelerate.drop_max_fused.Kernels` for CUDA, where torch brings triton.

Held against the plain path in triton's interpreter on a CPU; how fast it is on a GPU has not been measured.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mirst.nn.layers.windows import Windows

BLOCK = 256


def pool(x: Tensor, values: Tensor, places: Tensor, windows: Windows) -> None:
    _launch(_pool_kernel, values, (x, values, places), x.shape, values.shape, windows)


def scatter(gradient: Tensor, places: Tensor, out: Tensor, windows: Windows) -> None:
    _launch(_scatter_kernel, out, (gradient, places, out), out.shape, places.shape, windows)


def _launch(kernel: Any, target: Tensor, tensors: tuple[Tensor, ...], size: Any, counts: Any, windows: Windows) -> None:
    """One lane for each number of `target`, `BLOCK` of them in a program."""
    total = target.numel()
    if total:
        numbers = (total, *size[1:], *counts[1:3], *windows.kernel, *windows.stride, *windows.padding, BLOCK)
        with torch.cuda.device_of(target):  # type: ignore[no-untyped-call]
            kernel[(triton.cdiv(total, BLOCK),)](*tensors, *numbers)


@triton.jit
def _unravel(block: tl.constexpr, total, height, width, channels):
    flat = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    pixel = flat // channels
    row = pixel // width
    return flat, flat < total, row // height, row % height, pixel % width, flat % channels


@triton.jit
def _pool_kernel(
    x,
    values,
    places,
    total,
    height,
    width,
    channels,
    out_h,
    out_w,
    kernel_h: tl.constexpr,
    kernel_w: tl.constexpr,
    stride_h: tl.constexpr,
    stride_w: tl.constexpr,
    padding_h: tl.constexpr,
    padding_w: tl.constexpr,
    block: tl.constexpr,
):
    flat, live, plane, i, j, c = _unravel(block, total, out_h, out_w, channels)
    top, left = i * stride_h - padding_h, j * stride_w - padding_w
    first = tl.full([block], float("-inf"), x.dtype.element_ty)
    second = first
    for p in tl.static_range(kernel_h * kernel_w):
        row, column = top + p // kernel_w, left + p % kernel_w
        inside = live & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        v = tl.load(x + ((plane * height + row) * width + column) * channels + c, mask=inside, other=float("-inf"))
        smaller = tl.where(first < v, first, v)
        second = tl.where(smaller > second, smaller, second)
        first = tl.where(v > first, v, first)
    chosen = tl.zeros([block], tl.int32)
    nan = tl.full([block], -1, tl.int32)
    for q in tl.static_range(kernel_h * kernel_w):
        p = kernel_h * kernel_w - 1 - q
        row, column = top + p // kernel_w, left + p % kernel_w
        inside = live & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        v = tl.load(x + ((plane * height + row) * width + column) * channels + c, mask=inside, other=float("-inf"))
        chosen = tl.where(v == second, p, chosen)
        nan = tl.where(v != v, p, nan)
    tl.store(values + flat, tl.where(nan < 0, second, float("nan")), mask=live)
    tl.store(places + flat, tl.where(nan < 0, chosen, nan), mask=live)


@triton.jit
def _scatter_kernel(
    gradient,
    places,
    out,
    total,
    height,
    width,
    channels,
    out_h,
    out_w,
    kernel_h: tl.constexpr,
    kernel_w: tl.constexpr,
    stride_h: tl.constexpr,
    stride_w: tl.constexpr,
    padding_h: tl.constexpr,
    padding_w: tl.constexpr,
    block: tl.constexpr,
):
    flat, live, plane, row, column, c = _unravel(block, total, height, width, channels)
    received = tl.zeros([block], gradient.dtype.element_ty)
    for q in tl.static_range(kernel_h * kernel_w):  # each pixel gathers, in the order of the windows: no atomics
        p = kernel_h * kernel_w - 1 - q
        top, left = row + padding_h - p // kernel_w, column + padding_w - p % kernel_w
        i, j = top // stride_h, left // stride_w
        met = (
            live & (top >= 0) & (left >= 0) & (top % stride_h == 0) & (left % stride_w == 0) & (i < out_h) & (j < out_w)
        )
        window = ((plane * out_h + i) * out_w + j) * channels + c
        met = met & (tl.load(places + window, mask=met, other=0) == p)
        received += tl.load(gradient + window, mask=met, other=0.0)
    tl.store(out + flat, received, mask=live)
