"""Drop-max kernels for a CPU, compiled by numba. Import this module late: numba takes half a second."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from mirst.nn.layers.windows import Windows

PIXELS_PER_THREAD = 1 << 18
"""Below this many pixels a second thread costs more than it saves."""

PIECES_PER_THREAD = 4
"""A helper may wake late; the others then take more of the pieces."""


def pool(x: Tensor, values: Tensor, places: Tensor, windows: Windows) -> None:
    kernel = _pool_kernel(*windows.kernel, windows.stride[1] if x.shape[-1] == 1 else 1)
    _over_planes(kernel, x.numel(), (x, values, places), windows.stride, windows.padding)


def scatter(gradient: Tensor, places: Tensor, out: Tensor, windows: Windows) -> None:
    kernel = _scatter_planes(windows.stride[1]) if out.shape[-1] == 1 else _scatter_kernel()
    _over_planes(kernel, out.numel(), (gradient, places, out), *windows)


def _over_planes(kernel: Callable[..., None], pixels: int, tensors: tuple[Tensor, ...], *rest: Any) -> None:
    """Run `kernel` on all planes, in as many threads as torch may use; no plane is shared by two of them."""
    arrays = [tensor.detach().numpy() for tensor in tensors]
    planes = len(arrays[0])
    threads = min(torch.get_num_threads(), pixels // PIXELS_PER_THREAD, planes)
    if threads < 2:
        kernel(*arrays, *rest)
        return
    pieces = min(planes, PIECES_PER_THREAD * threads)
    cuts = [planes * piece // pieces for piece in range(pieces + 1)]
    left = iter([[array[a:b] for array in arrays] for a, b in pairwise(cuts)])

    def work() -> None:
        for piece in left:  # whichever thread is free takes the next one
            kernel(*piece, *rest)

    helpers = [_workers(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # unless it woke too late to help
            helper.result()


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="drop-max")


if hasattr(os, "register_at_fork"):  # a forked child inherits the pool without its threads
    os.register_at_fork(after_in_child=_workers.cache_clear)


def compiled(function: Callable[..., None], **options: Any) -> Callable[..., None]:
    """`function` as machine code that runs without the GIL, kept on disk where numba finds a folder for it."""
    try:
        made: Callable[..., None] = numba.njit(nogil=True, cache=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no writable folder
        made = numba.njit(nogil=True, error_model="numpy", **options)(function)
    return made


@cache
def _pool_kernel(kernel_h: int, kernel_w: int, step: int) -> Callable[..., None]:
    """`pool` for one window size, known to the compiler so that it unrolls the window and vectorises around it.

    The vectors run over the channels of a window; where C is 1, over a row of windows `step` pixels
    apart. What reaches into the padding is first copied together with it.
    """
    area = kernel_h * kernel_w

    def kernel(x, values, places, stride, padding):
        planes, height, width, channels = x.shape
        _, out_h, out_w, _ = values.shape
        groups, lanes, span = out_w, channels, kernel_w
        if channels == 1:
            groups, lanes, span = 1, out_w, (out_w - 1) * step + kernel_w
        patch = np.empty(kernel_h * span * channels, x.dtype)
        for plane in range(planes):
            image = x[plane].reshape(-1)
            for i in range(out_h):
                value, place = values[plane, i].reshape(-1), places[plane, i].reshape(-1)
                top = i * stride[0] - padding[0]
                for group in range(groups):
                    left = group * stride[1] - padding[1]
                    if 0 <= top <= height - kernel_h and 0 <= left <= width - span:
                        source, corner, pitch = image, (top * width + left) * channels, width * channels
                    else:
                        source, corner, pitch = patch, 0, span * channels
                        patch[:] = -np.inf
                        first_column, end_column = max(0, -left), min(span, width - left)
                        for row in range(max(0, -top), min(kernel_h, height - top)):
                            start = ((top + row) * width + left + first_column) * channels
                            size = (end_column - first_column) * channels
                            patch[row * pitch + first_column * channels :][:size] = image[start : start + size]
                    for lane in range(lanes):
                        first = second = x.dtype.type(-np.inf)
                        for p in range(area):
                            at = corner + p // kernel_w * pitch + p % kernel_w * channels + lane * step
                            v = source[np.uintp(at)]
                            smaller = first if first < v else v
                            second = smaller if smaller > second else second
                            first = v if v > first else first
                        chosen, nan = np.int32(0), np.int32(-1)
                        for p in range(area - 1, -1, -1):
                            at = corner + p // kernel_w * pitch + p % kernel_w * channels + lane * step
                            v = source[np.uintp(at)]
                            chosen = np.int32(p) if v == second else chosen
                            nan = np.int32(p) if v != v else nan
                        value[np.uintp(group * lanes + lane)] = second if nan < 0 else x.dtype.type(np.nan)
                        place[np.uintp(group * lanes + lane)] = chosen if nan < 0 else nan

    return compiled(kernel)


@cache
def _scatter_kernel() -> Callable[..., None]:
    def kernel(gradient, places, out, size, stride, padding):
        planes, height, width, channels = out.shape
        _, out_h, out_w, _ = places.shape
        rows = np.arange(256) // size[1] - padding[0]
        columns = np.arange(256) % size[1] - padding[1]
        steps = (rows * width + columns) * channels
        for plane in range(planes):
            out[plane] = 0
            flat = out[plane].reshape(-1)
            for i in range(out_h):
                top = i * stride[0]
                rows_inside = padding[0] <= top and top - padding[0] + size[0] <= height
                for j in range(out_w):
                    left = j * stride[1]
                    inside = rows_inside and padding[1] <= left and left - padding[1] + size[1] <= width
                    corner = (top * width + left) * channels
                    for c in range(channels):
                        p = places[plane, i, j, c]
                        if inside or (0 <= top + rows[p] < height and 0 <= left + columns[p] < width):
                            flat[np.uintp(corner + c + steps[p])] += gradient[plane, i, j, c]

    return compiled(kernel)


@cache
def _scatter_planes(step: int) -> Callable[..., None]:
    """`_scatter_kernel` where C is 1: without the loop over channels, and with windows `step` columns apart."""

    def kernel(gradient, places, out, size, stride, padding):
        planes, height, width, _ = out.shape
        _, out_h, out_w, _ = places.shape
        rows = np.arange(256) // size[1] - padding[0]
        columns = np.arange(256) % size[1] - padding[1]
        steps = rows * width + columns
        first = min(out_w, -(-padding[1] // step))
        end = max(first, min(out_w, (width + padding[1] - size[1]) // step + 1))
        for plane in range(planes):
            flat, given, place = out[plane].reshape(-1), gradient[plane].reshape(-1), places[plane].reshape(-1)
            flat[:] = 0
            for i in range(out_h):
                top, at = i * stride[0], i * out_w
                inside = padding[0] <= top and top - padding[0] + size[0] <= height
                a, b = (first, end) if inside else (out_w, out_w)  # windows between these lie inside
                corner = top * width
                for start, stop in ((0, a), (b, out_w)):  # from left to right, so that sums round as everywhere
                    if start:
                        for j in range(a, b):
                            p = place[np.uintp(at + j)]
                            flat[np.uintp(corner + j * step + steps[p])] += given[np.uintp(at + j)]
                    for j in range(start, stop):
                        p = place[np.uintp(at + j)]
                        if 0 <= top + rows[p] < height and 0 <= j * step + columns[p] < width:
                            flat[np.uintp(corner + j * step + steps[p])] += given[np.uintp(at + j)]

    return compiled(kernel)
