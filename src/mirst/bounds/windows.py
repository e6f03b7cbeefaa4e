"""The pixels of the windows of pooling layers, as flat indices."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Size = int | tuple[int, ...] | None
Windows = Callable[[int, int], Tensor]
"""From `(H, W)` to the flat pixels `(windows, pixels)` of each window; `H * W` for padding."""


def sliding(
    kernel: Size, stride: Size = None, padding: Size = 0, dilation: Size = 1, ceil_mode: bool = False
) -> Windows:
    """The windows of `F.max_pool2d`.

    >>> sliding(2)(2, 4).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    kernels, strides, paddings, dilations = (_pair(size) for size in (kernel, stride or kernel, padding, dilation))

    def windows(height: int, width: int) -> Tensor:
        rows = _places(height, kernels[0], strides[0], paddings[0], dilations[0], ceil_mode)
        columns = _places(width, kernels[1], strides[1], paddings[1], dilations[1], ceil_mode)
        return pixels_of(rows, columns, height, width)

    return windows


def adaptive(output: Sequence[int | None] | Size) -> Windows:
    """The windows of `F.adaptive_max_pool2d`.

    >>> adaptive(1)(2, 2).tolist()
    [[0, 1, 2, 3]]
    """
    counts = _pair(output)

    def windows(height: int, width: int) -> Tensor:
        return pixels_of(_parts(height, counts[0] or height), _parts(width, counts[1] or width), height, width)

    return windows


def pixels_of(rows: list[list[int]], columns: list[list[int]], height: int, width: int) -> Tensor:
    """The flat pixels of all windows `(windows, pixels)` that are made of these rows and columns.

    Rows and columns outside of the image are padding, `height * width`.

    >>> pixels_of([[0, 1]], [[-1, 0], [1, 2]], 2, 3).tolist()
    [[6, 0, 6, 3], [1, 2, 4, 5]]
    """
    row, column = torch.tensor(rows)[:, None, :, None], torch.tensor(columns)[None, :, None, :]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return torch.where(inside, row * width + column, height * width).flatten(2).flatten(0, 1)


def _places(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> list[list[int]]:
    free = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-free // stride) if ceil_mode else free // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:  # torch drops a window that starts in the padding
        count -= 1
    return [[start * stride - padding + dilation * k for k in range(kernel)] for start in range(count)]


def _parts(size: int, count: int) -> list[list[int]]:
    """Rows of the windows, filled up with -1 to one length."""
    parts = [list(range(k * size // count, -(-(k + 1) * size // count))) for k in range(count)]
    longest = max(map(len, parts))
    return [part + [-1] * (longest - len(part)) for part in parts]


def _pair(size: Sequence[int | None] | Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) or size is None else (size[0], size[1])  # type: ignore[return-value]
