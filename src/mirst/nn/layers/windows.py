"""Where the windows of a pooling layer lie."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mirst.errors import MirstError

Pair = tuple[int, int]


class Windows(NamedTuple):
    """The windows of a pooling layer, `(rows, columns)` each."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def counts(self, height: int, width: int) -> Pair:
        """How many windows an image has."""
        rows, columns = (
            (size + 2 * p - k) // s + 1
            for size, k, s, p in zip((height, width), self.kernel, self.stride, self.padding, strict=True)
        )
        return rows, columns

    def pad(self, x: Tensor, value: float) -> Tensor:
        """`x` `(..., H, W)` with its padding."""
        (rows, columns) = self.padding
        return F.pad(x, (columns, columns, rows, rows), value=value) if rows or columns else x

    def corners(self, height: int, width: int, device: torch.device) -> Tensor:
        """Flat index `(H', W')` of each window's first pixel in a padded image."""
        rows, columns = (
            torch.arange(count, device=device) * step
            for count, step in zip(self.counts(height, width), self.stride, strict=True)
        )
        return rows[:, None] * (width + 2 * self.padding[1]) + columns

    def require_two_pixels(self, height: int, width: int) -> None:
        """Raise `MirstError` unless every window contains two pixels that are no padding."""
        if min(self.counts(height, width)) < 1:
            raise MirstError(f"drop-max: a window of {self.kernel} does not fit into an image of {(height, width)}")
        rows, columns = (_fewest_pixels(*axis) for axis in zip((height, width), *self, strict=True))
        if rows * columns < 2:
            raise MirstError(
                f"drop-max with kernel {self.kernel}, stride {self.stride}, padding {self.padding} on "
                f"{(height, width)} has a window with fewer than two pixels; use a larger kernel or less padding"
            )


def _fewest_pixels(size: int, kernel: int, stride: int, padding: int) -> int:
    """Along one axis, the pixels in the window that padding cuts most: the first or the last."""
    first, last = -padding, (size + 2 * padding - kernel) // stride * stride - padding
    return max(0, min(first + kernel, size, kernel, size - last, last + kernel))


def take(padded: Tensor, index: Tensor) -> Tensor:
    """The pixels at flat `index` `(..., H', W')` into the last two axes of `padded`."""
    return padded.flatten(-2).gather(-1, index.flatten(-2)).view(index.shape)
