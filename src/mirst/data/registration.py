"""Whether two images share their pixels: they are aligned, and their fine detail is compared block by block.

The alignment is a crop, a stretch along each axis, and a shift. It is found from the shifts of blocks of the image, as
block matching does. Copies then agree in nearly every block, also where the noise is all there is. Two images of one
pose agree in some blocks only: at a border, an overlay, or a bone. Therefore the median over the blocks decides.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from mirst.data.candidates import Candidate
from mirst.data.sampling import Maps, Stack, blurred, sampling_matrix

SIDE = 96
"""Resolution of the comparison."""
WINDOW, STRIDE = 32, 16
"""Side of the blocks whose shifts are measured, and their distance."""
REACHES = (8, 4, 4)
"""How far blocks are looked for, in each round of the alignment."""
GLOBAL_REACH = 15
BLOCK = 12
"""Side of the blocks that are compared."""
FLAT, FULL = 0.25, 3.0
"""Gray levels of fine detail below which a block shows nothing, and above which it counts fully."""
BLACK = 6
"""Gray levels of a black border."""
FEWEST = 8
"""Blocks with detail that a comparison needs; with fewer, the images do not show whether they are copies."""
HOPELESS = 0.4
"""Agreement of the blocks below which the alignment is not refined further; that of noise is 0.3."""

Numbers = NDArray[np.float64]


def agreement(images: Stack, candidates: Sequence[Candidate]) -> Numbers:
    """For each candidate the median correlation of its blocks, -1 to 1; 0 if there are too few to tell.

    Args:
        images: `(N, side, side)`.
    """
    wholes = _warped(images[[c.whole for c in candidates]], _whole(len(candidates)))
    target, target_contrast = _detail(wholes)
    cropped = images[[c.cropped for c in candidates]]
    spans = np.array([[c.rows, c.columns] for c in candidates])
    spans = _moved(spans, _common_shift(target, _detail(_warped(cropped, spans))[0]))
    going_on = np.arange(len(candidates))
    for reach in REACHES:
        detail, _ = _detail(_warped(cropped[going_on], spans[going_on]))
        match, shifts = _block_shifts(target[going_on], detail, reach)
        spans[going_on] = _moved(spans[going_on], *_fitted(match, shifts))
        going_on = going_on[np.median(match, axis=1) >= HOPELESS]
        if len(going_on) == 0:
            break
    parts = _warped(cropped, spans)
    detail, contrast = _detail(parts)
    return _median_correlation(target, detail, np.minimum(target_contrast, contrast) * _counted(wholes, parts, spans))


def _whole(count: int) -> Numbers:
    return np.tile([[0.0, 1.0], [0.0, 1.0]], (count, 1, 1))


def _warped(images: Stack, spans: Numbers) -> Maps:
    """The parts `(n, 2, 2)` of the images (rows, columns), `SIDE` x `SIDE`, 0 outside of the image."""
    down, across = (sampling_matrix(spans[:, axis], images.shape[1], SIDE) for axis in (0, 1))
    return down @ images.astype(np.float32) @ across.transpose(0, 2, 1)


def _counted(wholes: Maps, parts: Maps, spans: Numbers) -> NDArray[np.bool_]:
    """`(n, SIDE, SIDE)`: pixels in both images and far from black, whose border and overlays all images may share."""
    places = (np.arange(SIDE) + 0.5) / SIDE
    at = spans[:, :, :1] + places * (spans[:, :, 1:] - spans[:, :, :1])
    within = (at >= 0) & (at <= 1)
    black = (wholes < BLACK) | (parts < BLACK)
    return within[:, 0, :, None] & within[:, 1, None, :] & (blurred(black.astype(np.float32), 3) < 0.02)


def _detail(pixels: Maps) -> tuple[Maps, Maps]:
    """Local deviation from the mean in units of the local contrast, and that contrast in gray levels."""
    deviation = pixels - blurred(pixels, 2)
    contrast = np.sqrt(blurred(deviation * deviation, 4).clip(0))
    return (deviation / (contrast + 3)).clip(-3, 3), contrast


def _common_shift(target: Maps, detail: Maps) -> Numbers:
    window = np.hanning(SIDE).astype(np.float32)
    _, shifts = _peaks(_correlations(target, detail, window[:, None] * window), GLOBAL_REACH)
    return shifts


def _block_shifts(target: Maps, detail: Maps, reach: int) -> tuple[Numbers, Numbers]:
    """How well `(n, blocks)` match, and `(n, blocks, 2)` how far they lie apart, in pixels."""
    taper = np.hanning(WINDOW + 2)[1:-1].astype(np.float32)
    one, other = (_windows(each) for each in (target, detail))
    match, shifts = _peaks(_correlations(one, other, taper[:, None] * taper), reach)
    return match.reshape(len(target), -1), shifts.reshape(len(target), -1, 2)


def _windows(maps: Maps) -> Maps:
    views = np.lib.stride_tricks.sliding_window_view(maps, (WINDOW, WINDOW), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    return views.reshape(-1, WINDOW, WINDOW)


def _correlations(target: Maps, detail: Maps, window: Maps) -> Maps:
    """Normalised circular cross-correlations of windowed maps."""
    one, other = (each * window for each in (target, detail))
    one, other = (each - each.mean(axis=(1, 2), keepdims=True) for each in (one, other))
    product = scipy.fft.irfft2(scipy.fft.rfft2(other) * np.conj(scipy.fft.rfft2(one)))
    norms = np.linalg.norm(one, axis=(1, 2)) * np.linalg.norm(other, axis=(1, 2))
    return np.asarray(product / np.maximum(norms, 1e-3)[:, None, None], dtype=np.float32)


def _peaks(correlations: Maps, reach: int) -> tuple[Numbers, Numbers]:
    """The largest values within `reach`, and their shifts `(n, 2)` to a fraction of a pixel."""
    count, side = len(correlations), correlations.shape[1]
    near = np.r_[0 : reach + 1, side - reach : side]
    values = correlations[:, near[:, None], near].reshape(count, -1)
    highest = values.argmax(axis=1)
    at = np.stack([near[highest // len(near)], near[highest % len(near)]], axis=1)
    each = np.arange(count)
    shifts = np.where(at > side // 2, at - side, at).astype(np.float64)
    for axis in (0, 1):
        step = np.eye(2, dtype=int)[axis]
        before, after = (correlations[each, *((at + one) % side).T] for one in (-step, step))
        curve = before - 2 * values[each, highest] + after
        shifts[:, axis] += np.where(curve < -1e-6, (before - after) / 2 / np.minimum(curve, -1e-6), 0).clip(-0.5, 0.5)
    return values[each, highest].astype(np.float64), shifts


def _fitted(match: Numbers, shifts: Numbers) -> tuple[Numbers, Numbers]:
    """Shift and growth `(n, 2)` of the whole along each axis, from the blocks that agree on them."""
    starts = np.arange(0, SIDE - WINDOW + 1, STRIDE) + WINDOW / 2 - SIDE / 2
    places = np.stack(np.meshgrid(starts, starts, indexing="ij"), axis=-1).reshape(1, -1, 2)
    weights = np.repeat(match.clip(0.02)[:, :, None] ** 2, 2, axis=2)
    for _ in range(3):
        total = weights.sum(axis=1, keepdims=True)
        place, shift = ((weights * each).sum(axis=1, keepdims=True) / total for each in (places, shifts))
        spread = (weights * (places - place) ** 2).sum(axis=1, keepdims=True) + 1e-3
        growth = ((weights * (places - place) * (shifts - shift)).sum(axis=1, keepdims=True) / spread).clip(-0.12, 0.12)
        offset = shift - growth * place
        weights = weights / (1 + (shifts - offset - growth * places) ** 2) ** 2
    return offset[:, 0], growth[:, 0]


def _moved(spans: Numbers, offset: Numbers, growth: Numbers | float = 0.0) -> Numbers:
    """The spans, shifted by `offset` pixels and stretched by `growth`, each `(n, 2)`."""
    length = spans[:, :, 1] - spans[:, :, 0]
    centre = spans.mean(axis=2) + offset * length / SIDE
    half = length / 2 * (1 + growth)
    return np.stack([centre - half, centre + half], axis=2)


def _median_correlation(target: Maps, detail: Maps, contrast: Maps) -> Numbers:
    """Over the blocks that show detail; blocks of little detail count less.

    Args:
        contrast: of the image with less of it, 0 where pixels do not count.
    """
    counted = _blocks((contrast > 0).astype(np.float32))
    share = counted.sum(axis=2)
    one, other = (_blocks(each) * counted for each in (target, detail))
    one, other = (
        (each - each.sum(axis=2, keepdims=True) / share.clip(1)[:, :, None]) * counted for each in (one, other)
    )
    norms = np.linalg.norm(one, axis=2) * np.linalg.norm(other, axis=2)
    correlation = (one * other).sum(axis=2) / np.maximum(norms, 1e-3)
    weights = (_blocks(contrast).sum(axis=2) / share.clip(1)).clip(0, FULL)
    weights = np.where((share >= BLOCK * BLOCK / 2) & (weights > FLAT), weights, 0)
    medians = _weighted_medians(correlation, weights)
    return np.where((weights > 0).sum(axis=1) >= FEWEST, medians, 0)


def _weighted_medians(values: Numbers, weights: Numbers) -> Numbers:
    """Of each row."""
    order = values.argsort(axis=1)
    below = np.take_along_axis(weights, order, axis=1).cumsum(axis=1)
    middle = (below < below[:, -1:] / 2).sum(axis=1, keepdims=True)
    return np.take_along_axis(values, np.take_along_axis(order, middle, axis=1), axis=1)[:, 0].astype(np.float64)


def _blocks(maps: Maps) -> Maps:
    """`(n, blocks, pixels)`."""
    count = SIDE // BLOCK
    parts = maps.reshape(-1, count, BLOCK, count, BLOCK).transpose(0, 1, 3, 2, 4)
    return parts.reshape(len(maps), count * count, BLOCK * BLOCK)
