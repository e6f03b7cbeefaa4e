"""Drop-max pooling: the second largest value of each window (MIRST-DM, Section 3.2)."""

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.nn.accelerate.drop_max_fused import fused_drop_max
from mirst.nn.layers.windows import Windows, take

Size = int | tuple[int, int]


def drop_max2d(x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """Pool each window to its second largest value.

    Ties count twice: two equal maxima give their value. A NaN makes its window NaN. The gradient flows to the
    chosen pixel, the first of equal ones. The function is differentiable any number of times.

    Args:
        x: `(..., H, W)`, floating point.
        kernel_size, stride, padding: as in `torch.nn.functional.max_pool2d`; the padding is -inf.

    Returns:
        `(..., H', W')`, the shape that max-pooling gives.

    Raises:
        MirstError: some window contains fewer than two pixels of `x`.

    Source: MIRST-DM (MICCAI 2022), Section 3.2.

    >>> x = torch.tensor([[[[1.0, 7.0, 3.0, 3.0], [4.0, 2.0, 0.0, 3.0]]]])
    >>> drop_max2d(x, kernel_size=2)
    tensor([[[[4., 3.]]]])
    """
    kernel = _pair(kernel_size)
    windows = Windows(kernel, kernel if stride is None else _pair(stride), _pair(padding))
    windows.require_two_pixels(*x.shape[-2:])
    pooled = fused_drop_max(x, windows)
    return _reference(x, windows) if pooled is None else pooled


class DropMax2d(nn.Module):
    """`drop_max2d` as a layer, to replace an `nn.MaxPool2d`.

    Args:
        kernel_size, stride, padding: as for `torch.nn.MaxPool2d`.

    >>> pool = DropMax2d(3, stride=2, padding=1)
    >>> pool(torch.rand(8, 64, 32, 32)).shape
    torch.Size([8, 64, 16, 16])
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    @classmethod
    def like(cls, pool: nn.MaxPool2d) -> "DropMax2d":
        """The drop-max layer with the geometry of `pool`.

        Raises:
            MirstError: `pool` uses `ceil_mode`, `dilation` or `return_indices`.
        """
        if pool.ceil_mode or _pair(pool.dilation) != (1, 1) or pool.return_indices:
            raise MirstError(
                f"{pool} cannot be replaced by drop-max, which has no ceil_mode, dilation or return_indices; "
                "rebuild the pool without them"
            )
        return cls(pool.kernel_size, pool.stride, pool.padding)

    def forward(self, x: Tensor) -> Tensor:
        return drop_max2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def replace_first_max_pool(model: nn.Module) -> nn.Module:
    """Replace the first `nn.MaxPool2d` of `model` by drop-max, in place.

    First means first in the order of registration. A pool that has several names is replaced under each of them.

    Returns:
        `model`; or the new layer, if `model` itself is the pool.

    Raises:
        MirstError: `model` has no `nn.MaxPool2d`, or one with options that drop-max lacks.

    >>> replace_first_max_pool(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)))[2]
    DropMax2d(kernel_size=2, stride=2, padding=0)
    """
    pool = next((m for m in model.modules() if isinstance(m, nn.MaxPool2d)), None)
    if pool is None:
        raise MirstError(
            f"{type(model).__name__} has no nn.MaxPool2d to replace; write F.max_pool2d calls in its forward as "
            "nn.MaxPool2d modules"
        )
    layer = DropMax2d.like(pool)
    if pool is model:
        return layer
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is pool:
                setattr(parent, name, layer)
    return model


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _reference(x: Tensor, windows: Windows) -> Tensor:
    """Drop-max in torch operations: the reference for the kernels, and the fallback without one."""
    padded = windows.pad(x, -torch.inf)
    with torch.no_grad():
        index = _second_largest_index(padded, Windows(windows.kernel, windows.stride, (0, 0)))
    return take(padded, index)


def _second_largest_index(x: Tensor, windows: Windows) -> Tensor:
    """Flat index into the last two axes of `x` of each window's second largest value, or of its first NaN.

    One pass over the window's positions keeps the two largest values, a second one finds where the
    smaller one is (the first place, if several pixels tie).
    """
    height, width = x.shape[-2:]
    (kernel_h, kernel_w), (step_h, step_w) = windows.kernel, windows.stride
    out_h, out_w = windows.counts(height, width)
    offsets = [divmod(place, kernel_w) for place in range(kernel_h * kernel_w)]
    views = [x[..., i : i + out_h * step_h : step_h, j : j + out_w * step_w : step_w] for i, j in offsets]
    first, second = torch.maximum(views[0], views[1]), torch.minimum(views[0], views[1])
    for view in views[2:]:
        second = torch.maximum(second, torch.minimum(first, view))
        first = torch.maximum(first, view)

    corners = windows.corners(height, width, x.device)
    index = corners.expand_as(second)
    for (i, j), view in reversed(list(zip(offsets, views, strict=True))):
        index = torch.where((view == second) | view.isnan(), corners + (i * width + j), index)
    return index
