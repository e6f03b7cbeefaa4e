"""Parts of square images, resampled and blurred by matrix products: many images at once, without loops."""

from functools import cache

import numpy as np
import scipy
from numpy.typing import NDArray

Interval = tuple[float, float]
Stack = NDArray[np.uint8]
"""`(N, side, side)` gray images."""
Maps = NDArray[np.float32]


def sampling_matrix(intervals: NDArray[np.float64], source: int, side: int) -> Maps:
    """`(n, side, source)` matrices that resample `source` pixels between two ends to `side`, averaging when reduced.

    Args:
        intervals: `(n, 2)` ends in shares of the source; from high to low mirrors it. Samples outside of it are 0.
    """
    step = (intervals[:, 1] - intervals[:, 0]) * source / side
    centres = (intervals[:, :1] * source + (np.arange(side) + 0.5) * step[:, None]).astype(np.float32)
    width = np.maximum(1, np.abs(step)).astype(np.float32)
    weights = np.abs(np.arange(source, dtype=np.float32) + 0.5 - centres[:, :, None])
    weights /= -width[:, None, None]
    weights += 1
    np.maximum(weights, 0, out=weights)
    inside = (centres >= 0) & (centres <= source)
    weights *= (inside / np.maximum(weights.sum(axis=2), 1e-6))[:, :, None].astype(np.float32)
    return np.asarray(weights, dtype=np.float32)


def blurred(pixels: Maps, sigma: float) -> Maps:
    """Square images through a Gaussian, as two matrix products: several times faster than filtering small images."""
    matrix = _gaussian(pixels.shape[-1], sigma)
    return np.asarray(matrix @ pixels @ matrix.T, dtype=np.float32)


@cache
def _gaussian(side: int, sigma: float) -> Maps:
    return np.asarray(scipy.ndimage.gaussian_filter1d(np.eye(side), sigma, axis=0), dtype=np.float32)
