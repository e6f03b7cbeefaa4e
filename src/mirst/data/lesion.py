"""Square crops around a lesion, with what surrounds them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import affine_grid, grid_sample

from mirst.data.box import Box
from mirst.data.images import Pixels

Values = NDArray[np.float64]

MARGIN = 0.3
"""Default margin on each side of the box, as a share of its longer side."""


class LesionCrop(NamedTuple):
    """A crop of an image with its surroundings.

    >>> crop = LesionCrop.of(Image.new("L", (200, 100)), Box(80, 20, 120, 40), size=16, margin=0.25)
    >>> crop.surroundings.shape, [round(value, 3) for value in crop.features]
    ((1, 32, 32), [-0.693, -3.219])
    """

    surroundings: Pixels
    """`(C, size + 2 * (size // 2), ...)`, 0 to 255: the crop in the middle, about half its side around it."""
    features: tuple[float, float]
    """`Box.features`; NaN without a box."""

    @classmethod
    def of(cls, image: Image.Image, box: Box | None, size: int, margin: float) -> "LesionCrop":
        """The square with the centre of the box and a side of `1 + 2 * margin` times its longer side.

        Where the square leaves the image, the image is continued by reflection: black bars would tell the shape of
        the box without a pixel of tissue. Without a box the square encloses the whole image.

        Args:
            size: side of the crop in pixels.

        Raises:
            MirstError: a box outside of the image.
        """
        width, height = image.size
        inside = Box(0, 0, width, height) if box is None else box.within(width, height)
        side = max(inside.width, inside.height) * (1 if box is None else 1 + 2 * margin)
        features = (np.nan, np.nan) if box is None else inside.features(width, height)
        centre = (inside.x0 + inside.x1) / 2, (inside.y0 + inside.y1) / 2
        full = size + 2 * (size // 2)
        return cls(_square(image, centre, side * full / size, full), features)


def _square(image: Image.Image, centre: tuple[float, float], side: float, size: int) -> Pixels:
    """A square of the image continued by reflection, `(C, size, size)`."""
    shrink = min(1.0, 4 * size / side)  # or the reflected copy of a large image would not fit into memory
    small = image
    if shrink < 1:
        sides = (max(1, round(length * shrink)) for length in image.size)
        small = image.resize((next(sides), next(sides)), Image.Resampling.BILINEAR)
    scale = np.array(small.size) / np.array(image.size)
    start, length = (np.array(centre) - side / 2) * scale, side * scale
    pixels = np.atleast_3d(np.asarray(small))
    before = np.maximum(0, np.ceil(-start)).astype(int)
    after = np.maximum(0, np.ceil(start + length - np.array(small.size))).astype(int)
    around = np.pad(pixels, [*zip(before[::-1], after[::-1], strict=True), (0, 0)], mode="symmetric").squeeze()
    corner = start + before
    end = np.minimum(corner + length, (around.shape[1], around.shape[0]))
    region = (float(corner[0]), float(corner[1]), float(end[0]), float(end[1]))
    resized = Image.fromarray(around).resize((size, size), Image.Resampling.BILINEAR, box=region)
    return np.atleast_3d(np.asarray(resized)).transpose(2, 0, 1)


class Placements(NamedTuple):
    """By how much each of N boxes is misplaced, each `(N,)`; all zeros are the boxes themselves.

    >>> Placements.fixed(2, shift_x=0.1).shift_x
    array([0.1, 0.1])
    """

    shift_x: Values
    """Of the centre to the right, as a share of the width of the box."""
    shift_y: Values
    """Of the centre downwards, as a share of the height of the box."""
    scale_x: Values
    """The box becomes `1 + scale_x` times as wide."""
    scale_y: Values
    """The box becomes `1 + scale_y` times as high."""

    @classmethod
    def fixed(
        cls, count: int, *, shift_x: float = 0, shift_y: float = 0, scale_x: float = 0, scale_y: float = 0
    ) -> "Placements":
        """The same misplacement of `count` boxes."""
        return cls(*(np.full(count, float(value)) for value in (shift_x, shift_y, scale_x, scale_y)))

    @classmethod
    def drawn(cls, count: int, reach: float) -> "Placements":
        """Each value uniform in `[-reach, reach]`, from torch's global generator."""
        return cls(*((2 * torch.rand(4, count, dtype=torch.float64) - 1) * reach).numpy())


@dataclass(frozen=True)
class Lesions:
    """How the crops of N images lie in their surroundings.

    >>> Lesions(8, 0.3, np.zeros((3, 2))).misplaced(Placements.fixed(3, scale_x=1)).features.round(3)[0].tolist()
    [-0.693, 0.693]
    """

    size: int
    """Side of a crop in pixels."""
    margin: float
    """As in `LesionCrop.of`."""
    features: Values
    """`(N, 2)`, `Box.features` of the boxes as they are placed; NaN without a box."""
    as_channel: bool = False
    """Whether the features are appended to the images as a channel (`mirst.box_code`)."""
    true: Values | None = None
    """`features` of the boxes that the surroundings were cropped around, if the boxes are misplaced."""
    placements: Placements | None = None

    def at(self, indices: Sequence[int] | NDArray[np.int64]) -> "Lesions":
        """Those of some images."""
        placements = self.placements and Placements(*(values[indices] for values in self.placements))
        true = None if self.true is None else self.true[indices]
        return replace(self, features=self.features[indices], true=true, placements=placements)

    def misplaced(self, placements: Placements) -> "Lesions":
        """The same lesions with misplaced boxes. The part of a box outside of the image counts too."""
        wider, higher = np.log1p(placements.scale_x), np.log1p(placements.scale_y)
        features = self.features + np.stack([higher - wider, higher + wider], axis=1)
        return replace(self, features=features, true=self.features, placements=placements)

    def transforms(self) -> Values | None:
        """Where the crops lie, `(N, 2, 3)`: from a crop to that of the true box; `None` if no box is misplaced.

        Both are measured from their centres in half their sides. Without a box the crop stays.
        """
        if self.true is None or self.placements is None:
            return None
        aspect = np.exp(np.nan_to_num(self.true[:, 0]))
        width, height = np.minimum(1, 1 / aspect), np.minimum(1, aspect)  # as shares of the longer side
        moved = self.placements
        scale = np.maximum(width * (1 + moved.scale_x), height * (1 + moved.scale_y))
        right, down = (2 / (1 + 2 * self.margin) * shift for shift in (moved.shift_x * width, moved.shift_y * height))
        zero = np.zeros(len(aspect))
        found = np.stack([np.stack([scale, zero, right], 1), np.stack([zero, scale, down], 1)], 1)
        return np.where(np.isnan(self.true[:, :1, None]), np.eye(3)[:2], found)

    def crops(self, surroundings: Pixels) -> Pixels:
        """The crops `(N, C, size, size)` from `surroundings` `(N, C, S, S)`, 0 to 255."""
        transforms = self.transforms()
        if transforms is not None:
            return cropped(surroundings, self.size, transforms, "reflection")
        start = (surroundings.shape[-1] - self.size) // 2
        return np.ascontiguousarray(surroundings[..., start : start + self.size, start : start + self.size])


def cropped(surroundings: Pixels, size: int, transforms: Values, outside: Literal["zeros", "reflection"]) -> Pixels:
    """Crops of `size` pixels, `(N, C, size, size)`, bilinear.

    Args:
        surroundings: `(N, C, S, S)`, 0 to 255.
        transforms: `(N, 2, 3)`, from the crop to the middle `size` pixels of `surroundings`, each measured from its
            centre in half its side. Identities give the middle itself.
        outside: what lies outside of `surroundings`.
    """
    n, channels, full, _ = surroundings.shape
    grid = affine_grid(torch.from_numpy(transforms * (size / full)), [n, channels, size, size], align_corners=False)
    images = torch.from_numpy(surroundings.astype(np.float64))
    values = grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)
    return np.asarray(values.round().clamp(0, 255).to(torch.uint8))
