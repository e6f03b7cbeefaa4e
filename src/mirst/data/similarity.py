"""Pairs of images that show the same lesion: copies, crops, mirror images, frames of one sweep.

Two stages, both independent of brightness and contrast. A coarse one compares small descriptors of every
image with those of crops and mirror images of every other, one matrix product for all pairs. A fine
one aligns the candidates and correlates their detail down to the speckle, which two views of one
lesion share only when the probe has hardly moved. docs/decisions/duplicates.md has the thresholds.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

CANDIDATE, SURE, FINE = 0.50, 0.72, 0.30
"""A pair is one if coarse >= SURE, or if coarse >= CANDIDATE and fine >= FINE."""
HOPELESS = 0.15
"""Fine similarity at the first scale below which the other scales are not tried."""

SIDE, FINE_SIDE, REACH = 24, 128, 16
SCALES = (1.0, 0.97, 1.03, 0.94, 1.06)
ORIENTATIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Steps along rows and columns: unchanged, mirrored, upside down, both."""

Box = tuple[float, float, float, float]
Descriptor = NDArray[np.float32]
In = TypeVar("In")
Out = TypeVar("Out")


def _boxes() -> list[Box]:
    """The whole image, and its corners and centre at 92 to 70 % of the sides."""
    boxes = [(0.0, 0.0, 1.0, 1.0)]
    for share in (0.92, 0.85, 0.77, 0.70):
        rest = 1 - share
        starts = [(0.0, 0.0), (rest, 0.0), (0.0, rest), (rest, rest), (rest / 2, rest / 2)]
        boxes += [(x, y, x + share, y + share) for x, y in starts]
    return boxes


BOXES = _boxes()


@dataclass(frozen=True)
class Pair:
    """Two near-duplicates, `first < second`."""

    first: int
    second: int
    coarse: float
    fine: float


def describe(image: Image.Image) -> Descriptor:
    """`(len(BOXES), SIDE * SIDE)` unit vectors: the image and its crops, with normalised contrast."""
    crops = np.stack([_crop(image, box, 2 * SIDE) for box in BOXES])
    detail = _detail(crops, sigma=6.0, spread=6.0, floor=4.0)
    small = detail.reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4))
    return np.stack([_unit(view - view.mean()).ravel() for view in small])


def describe_all(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """`(N, len(BOXES), SIDE * SIDE)`."""
    return np.array(_in_threads(describe, images), dtype=np.float32).reshape(len(images), len(BOXES), SIDE * SIDE)


def find_pairs(images: Sequence[Image.Image], descriptors: NDArray[np.float32]) -> list[Pair]:
    """All pairs of near-duplicates among gray `images`.

    Args:
        descriptors: `(N, len(BOXES), SIDE * SIDE)`, from `describe`.
    """

    def compared(candidate: tuple[int, int, float, _View]) -> Pair:
        first, second, coarse, view = candidate
        return Pair(first, second, coarse, _fine(images[view.cropped], images[view.whole], view))

    pairs = _in_threads(compared, list(_candidates(descriptors)))
    return [pair for pair in pairs if pair.coarse >= SURE or pair.fine >= FINE]


def _in_threads(function: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    """Apply `function` in threads, one for each core. The matrix products of one item are too small for several."""
    with threadpool_limits(1), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(function, items))


@dataclass(frozen=True)
class _View:
    """How one image of a pair must be cropped and mirrored to resemble the other."""

    cropped: int
    whole: int
    box: int
    orientation: int


def _candidates(descriptors: NDArray[np.float32]) -> Iterator[tuple[int, int, float, _View]]:
    """Pairs of coarse similarity CANDIDATE or more, each with its best view."""
    count = len(descriptors)
    whole = descriptors[:, 0]
    best: dict[tuple[int, int], tuple[float, _View]] = {}
    for orientation, (down, across) in enumerate(ORIENTATIONS):
        grid = descriptors.reshape(count, len(BOXES), SIDE, SIDE)[:, :, ::down, ::across].reshape(descriptors.shape)
        for box in range(len(BOXES)):
            for start in range(0, count, 1024):
                similarity = grid[start : start + 1024, box] @ whole.T
                for row, column in np.argwhere(similarity >= CANDIDATE):
                    cropped, other, value = int(row) + start, int(column), float(similarity[row, column])
                    key = (min(cropped, other), max(cropped, other))
                    if cropped != other and value > best.get(key, (0.0, None))[0]:
                        best[key] = (value, _View(cropped, other, box, orientation))
    for (first, second), (value, view) in sorted(best.items()):
        yield first, second, value, view


def _fine(cropped: Image.Image, whole: Image.Image, view: _View) -> float:
    """The largest correlation of detail over small shifts and scales."""
    target = np.conj(np.fft.rfft2(_windowed(whole, BOXES[0])))
    down, across = ORIENTATIONS[view.orientation]
    best = 0.0
    for scale in SCALES:
        detail = _windowed(cropped, _scaled(BOXES[view.box], scale))[::down, ::across]
        correlation = np.fft.irfft2(np.fft.rfft2(detail) * target)
        near = np.r_[0 : REACH + 1, FINE_SIDE - REACH : FINE_SIDE]
        best = max(best, float(correlation[np.ix_(near, near)].max()))
        if best < HOPELESS:
            break
    return best


def _windowed(image: Image.Image, box: Box) -> NDArray[np.float32]:
    detail = _detail(_crop(image, box, FINE_SIDE), sigma=2.0, spread=4.0, floor=3.0).clip(-3, 3)
    window = np.hanning(FINE_SIDE).astype(np.float32)
    detail = detail * window[:, None] * window
    return _unit(detail - detail.mean())


def _detail(pixels: NDArray[np.float32], sigma: float, spread: float, floor: float) -> NDArray[np.float32]:
    """Local deviation from the mean in units of the local contrast; contrast below `floor` gray levels is ignored."""
    deviation = pixels - _blurred(pixels, sigma)
    contrast = np.sqrt(_blurred(deviation * deviation, spread)) + floor
    return np.asarray(deviation / contrast, dtype=np.float32)


def _blurred(pixels: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Square images through a Gaussian, as two matrix products: several times faster than filtering small images."""
    matrix = _gaussian(pixels.shape[-1], sigma)
    return np.asarray(matrix @ pixels @ matrix.T, dtype=np.float32)


@cache
def _gaussian(side: int, sigma: float) -> NDArray[np.float32]:
    return np.asarray(scipy.ndimage.gaussian_filter1d(np.eye(side), sigma, axis=0), dtype=np.float32)


def _crop(image: Image.Image, box: Box, side: int) -> NDArray[np.float32]:
    """The part `box` of the image, stretched to a square."""
    width, height = image.size
    pixels = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= 1 and box[3] <= 1
    if inside:
        part = image.resize((side, side), Image.Resampling.BILINEAR, box=pixels)
    else:
        part = image.transform((side, side), Image.Transform.EXTENT, pixels, Image.Resampling.BILINEAR)
    return np.asarray(part, dtype=np.float32)


def _scaled(box: Box, scale: float) -> Box:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = (box[2] - box[0]) / 2 * scale
    return (x - half, y - half, x + half, y + half)


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    norm = float(np.linalg.norm(values))
    return np.asarray(values / norm if norm > 1e-6 else np.zeros_like(values), dtype=np.float32)
