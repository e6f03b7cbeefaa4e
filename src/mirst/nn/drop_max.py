"""Drop-max pooling: the second largest value of each window (MIRST-DM, Section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirst.errors import MirstError

Size = int | tuple[int, int]


def drop_max2d(x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """Pool each window to its second largest value, ties counted.

    Two equal maxima give that value. The gradient flows to the one pixel that was chosen; it is
    differentiable any number of times.

    Args:
        x: `(..., H, W)`, floating point.
        kernel_size, stride, padding: as in `torch.nn.functional.max_pool2d`; the padding is -inf.

    Returns:
        `(..., H', W')`, the shape that max-pooling gives.

    Raises:
        MirstError: some window holds fewer than two pixels of `x`.

    Source: MIRST-DM (MICCAI 2022), Section 3.2.
    """
    kernel, pad = _pair(kernel_size), _pair(padding)
    step = kernel if stride is None else _pair(stride)
    shape = x.shape[-2:]
    _require_two_pixels(shape, kernel, step, pad)
    padded = F.pad(x, (pad[1], pad[1], pad[0], pad[0]), value=-torch.inf) if any(pad) else x
    with torch.no_grad():
        index = _second_largest_index(padded, kernel, step)
    return padded.flatten(-2).gather(-1, index.flatten(-2)).view(index.shape)


class DropMax2d(nn.Module):
    """`drop_max2d` as a layer, in the place of an `nn.MaxPool2d`."""

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
                f"{pool} cannot become a drop-max layer: ceil_mode, dilation and return_indices have "
                "no counterpart there; rebuild the pool without them"
            )
        return cls(pool.kernel_size, pool.stride, pool.padding)

    def forward(self, x: Tensor) -> Tensor:
        return drop_max2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def replace_first_max_pool(model: nn.Module) -> nn.Module:
    """Put a drop-max layer in the place of the first `nn.MaxPool2d` of `model`, in place.

    First means first in the order of registration. A pool that the model uses in several places
    under one module is replaced in all of them.

    Returns:
        `model`; or the new layer, where `model` itself is the pool.

    Raises:
        MirstError: `model` holds no `nn.MaxPool2d`, or one that drop-max cannot stand in for.
    """
    pool = next((m for m in model.modules() if isinstance(m, nn.MaxPool2d)), None)
    if pool is None:
        raise MirstError(
            f"{type(model).__name__} holds no nn.MaxPool2d to replace; drop-max needs one as a module "
            "(a call of F.max_pool2d inside forward cannot be found)"
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


def _second_largest_index(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Flat index into the last two axes of `x` of each window's second largest value.

    One pass over the window's positions keeps the two largest values, a second one finds where the
    smaller of them stands (its first place, where several pixels tie).
    """
    height, width = x.shape[-2:]
    out_h = (height - kernel[0]) // stride[0] + 1
    out_w = (width - kernel[1]) // stride[1] + 1
    offsets = [divmod(position, kernel[1]) for position in range(kernel[0] * kernel[1])]
    views = [x[..., i : i + out_h * stride[0] : stride[0], j : j + out_w * stride[1] : stride[1]] for i, j in offsets]
    first, second = torch.maximum(views[0], views[1]), torch.minimum(views[0], views[1])
    for view in views[2:]:
        second = torch.maximum(second, torch.minimum(first, view))
        first = torch.maximum(first, view)

    rows = torch.arange(0, out_h * stride[0], stride[0], device=x.device)
    columns = torch.arange(0, out_w * stride[1], stride[1], device=x.device)
    origin = rows[:, None] * width + columns
    index = origin.expand_as(second)
    for (i, j), view in reversed(list(zip(offsets, views, strict=True))):
        index = torch.where(view == second, origin + (i * width + j), index)
    return index


def _require_two_pixels(
    shape: torch.Size, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    fewest = 1
    for size, k, s, p in zip(shape, kernel, stride, padding, strict=True):
        starts = range(-p, size + p - k + 1, s)
        if not starts:
            raise MirstError(f"drop-max: a window of {kernel} does not fit into an image of {tuple(shape)}")
        fewest *= min(max(0, min(a + k, size) - max(a, 0)) for a in starts)
    if fewest < 2:
        raise MirstError(
            f"drop-max with kernel {kernel}, stride {stride}, padding {padding} on {tuple(shape)} meets a "
            "window with fewer than two pixels; use a larger kernel or less padding"
        )
