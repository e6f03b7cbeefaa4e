"""Places, masks and filters that corruptions are made of."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mirst.random_draws import uniform_per_image


def content(x: Tensor) -> Tensor:
    """`(N, 1, H, W)`: whether a pixel lies in a row and a column that are not all black."""
    lit = (x > 0).any(1, keepdim=True)
    return lit.any(3, keepdim=True) & lit.any(2, keepdim=True)


def on_content(x: Tensor, changed: Tensor) -> Tensor:
    """`changed` on the content, `x` on the letterbox."""
    return torch.where(content(x), changed, x)


def added(x: Tensor, change: Tensor | float) -> Tensor:
    """`x + change` on the content, not on the letterbox."""
    return on_content(x, x + change)


def depth(x: Tensor) -> Tensor:
    """`(1, 1, H, 1)`, from 0 at the top to 1 at the bottom."""
    return torch.linspace(0, 1, x.shape[2]).view(1, 1, -1, 1)


def lateral(x: Tensor) -> Tensor:
    """`(1, 1, 1, W)`, from 0 on the left to 1 on the right."""
    return torch.linspace(0, 1, x.shape[3]).view(1, 1, 1, -1)


def point(x: Tensor, generator: torch.Generator, low: float = 0.1, high: float = 0.9) -> tuple[Tensor, Tensor]:
    """A random point of each image: its depth and its lateral place, `(N, 1, 1, 1)` each."""
    return uniform_per_image(len(x), low, high, generator), uniform_per_image(len(x), low, high, generator)


def distance(x: Tensor, down: Tensor | float = 0.5, across: Tensor | float = 0.5) -> Tensor:
    """Of every pixel from a point, `(N or 1, 1, H, W)`, in widths of the image."""
    return torch.hypot(depth(x) - down, lateral(x) - across)


def either_sign(x: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 for each image, `(N, 1, 1, 1)`."""
    return torch.sign(uniform_per_image(len(x), -1, 1, generator))


def painted(x: Tensor, cover: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """The share `cover` of each pixel in `colour`, on the content; gray images get its luminance."""
    red, green, blue = colour
    paint = torch.tensor(colour if x.shape[1] == 3 else [0.299 * red + 0.587 * green + 0.114 * blue])
    return on_content(x, x + cover * (paint.view(1, -1, 1, 1) - x))


def blurred(x: Tensor, axial: float, across: float) -> Tensor:
    """Gaussian of sigmas in pixels of a 64-pixel image."""
    for sigma, side, axis in ((axial, x.shape[2], 2), (across, x.shape[3], 3)):
        scaled = sigma * side / 64
        if scaled <= 0:
            continue
        reach = min(math.ceil(3 * scaled), side - 1)
        taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / scaled) ** 2)
        kernel = (taps / taps.sum()).to(x).view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        padding = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        x = convolved(x, kernel, padding)
    return x


def convolved(x: Tensor, kernel: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Every channel with `kernel` `(1, 1, h, w)`, mirrored at the border."""
    padded = F.pad(x, padding, mode="reflect")
    return F.conv2d(padded, kernel.expand(x.shape[1], 1, *kernel.shape[2:]), groups=x.shape[1])


def moved(x: Tensor, matrix: Tensor, padding: str = "zeros") -> Tensor:
    """Resampled by affine maps `(N, 2, 3)` of the coordinates [-1, 1]."""
    grid = F.affine_grid(matrix.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode=padding, align_corners=False)


def affine(scale: Tensor | float, down: Tensor | float, across: Tensor | float, count: int) -> Tensor:
    """Maps `(count, 2, 3)` that scale, and shift by shares of half the side."""
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = torch.as_tensor(scale, dtype=matrix.dtype)
    matrix[:, 0, 2] = torch.as_tensor(across, dtype=matrix.dtype)
    matrix[:, 1, 2] = torch.as_tensor(down, dtype=matrix.dtype)
    return matrix
