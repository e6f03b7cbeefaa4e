"""Random changes of training images."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mirst.data.images import Pixels
from mirst.data.lesion import cropped
from mirst.errors import MirstError

LIMITS = {"shift": 0.5, "rotation": 180.0, "scale": 1.0, "cutout": 0.9, "intensity": 0.9, "box": 0.5}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are changed, each change drawn for each image from torch's global generator.

    Whole images are continued with zeros; lesion crops with what surrounds them.

    Raises:
        MirstError: a field out of range.

    >>> Augmentation(rotation=15, box=0.1).is_geometric
    True
    """

    flip: bool = True
    """Flip left-right with probability 1/2."""
    shift: float = 1 / 16
    """Largest shift in x and in y, as a share of the side; in whole pixels unless the image is rotated or scaled."""
    rotation: float = 0.0
    """Largest rotation in either direction, in degrees."""
    scale: float = 0.0
    """The image is scaled by a factor between `1 / (1 + scale)` and `1 + scale`, uniform in its logarithm."""
    cutout: float = 0.0
    """Side of a square that is set to the mean of the image, as a share of the side; its centre is anywhere."""
    intensity: float = 0.0
    """Contrast is multiplied by `1 + c` around the mean and `b / 2` is added to the pixels in [0, 1], `c` and `b`
    uniform in plus or minus `intensity`."""
    box: float = 0.0
    """The box of the lesion is shifted by up to this share of its width and height, and each of them is scaled by up
    to it."""

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise MirstError(f"{name} is {value}; it must lie between 0 and {limit:g}")

    @property
    def is_geometric(self) -> bool:
        """Whether images are resampled, rather than moved by whole pixels."""
        return bool(self.rotation or self.scale or self.box)

    def moved(self, images: Pixels, size: int, crops: NDArray[np.float64] | None = None) -> Pixels:
        """The images flipped, rotated, scaled and shifted, `(N, C, size, size)`.

        Args:
            images: `(N, C, S, S)`, with or without surroundings.
            crops: `(N, 2, 3)`, `crop_transforms` of misplaced boxes, which are applied first; `None` for none.
        """
        if crops is None and not self.is_geometric:
            return shifted_and_flipped(images, size, self.flip, int(size * self.shift))
        own = self._transforms(len(images))
        whole = np.broadcast_to(np.eye(3), (len(images), 3, 3)).copy()
        if crops is not None:
            whole[:, :2] = crops
        outside: Literal["zeros", "reflection"] = "zeros" if images.shape[-1] == size else "reflection"
        return cropped(images, size, (whole @ own)[:, :2], outside)

    def recoloured(self, images: Pixels) -> Pixels:
        """The images with other contrast, brightness and a square cut out, as far as configured."""
        if self.intensity:
            contrast, brightness = ((2 * torch.rand(2, len(images), 1, 1, 1) - 1) * self.intensity).numpy()
            mean = images.mean((1, 2, 3), keepdims=True)
            changed = (images - mean) * (1 + contrast) + mean + 255 * brightness / 2
            images = changed.round().clip(0, 255).astype(np.uint8)
        return self._cut(images) if self.cutout else images

    def _transforms(self, count: int) -> NDArray[np.float64]:
        """`(N, 3, 3)`, from the changed image to the image, both measured from their centres in half their sides."""
        draws = (2 * torch.rand(5, count, dtype=torch.float64) - 1).numpy()
        mirror = np.where(draws[0] < 0, -1.0, 1.0) if self.flip else np.ones(count)
        angle, scale = np.deg2rad(self.rotation * draws[1]), (1 + self.scale) ** -draws[2]
        right, down = 2 * self.shift * draws[3:]
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        zero, one = np.zeros(count), np.ones(count)
        rows = [[mirror * cos, -mirror * sin, right], [sin, cos, down], [zero, zero, one]]
        return np.stack([np.stack(row, 1) for row in rows], 1)

    def _cut(self, images: Pixels) -> Pixels:
        n, _, height, width = images.shape
        side = max(1, round(self.cutout * width))
        tops, lefts = (torch.rand(2, n) * torch.tensor([[height], [width]])).long().tolist()
        images = images.copy()
        for image, top, left in zip(images, tops, lefts, strict=True):
            rows, columns = (slice(max(0, at - side // 2), at - side // 2 + side) for at in (top, left))
            image[:, rows, columns] = round(image.mean())
        return images


def shifted_and_flipped(images: Pixels, size: int, flip: bool, reach: int) -> Pixels:
    """The middle `size` pixels of each image, flipped left-right with probability 1/2 and shifted by up to `reach`.

    What lies outside of the image is 0.
    """
    n, channels = images.shape[:2]
    flips = ((torch.rand(n, 1, 1, 1) < 0.5) & flip).flatten().tolist()
    tops, lefts = (torch.randint(0, 2 * reach + 1, (2, n)) - reach).tolist()
    moved = np.zeros((n, channels, size, size), images.dtype)
    start = (images.shape[-1] - size) // 2
    for image, target, mirrored, down, right in zip(images, moved, flips, tops, lefts, strict=True):
        source = image[:, :, ::-1] if mirrored else image
        (to_y, from_y), (to_x, from_x) = (_overlap(start + by, size, images.shape[-1]) for by in (down, right))
        target[:, to_y, to_x] = source[:, from_y, from_x]
    return moved


def _overlap(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Where a window of `size` that starts at `start` of an image meets it: in the window, and in the image."""
    begin, end = max(start, 0), min(start + size, length)
    return slice(begin - start, end - start), slice(begin, end)
