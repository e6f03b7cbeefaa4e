"""Near-duplicate images by perceptual hash."""

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MAX_DISTANCE = 10
"""Of 64 bits; docs/decisions/group-folds.md says why 10."""


def perceptual_hash(image: Image.Image) -> NDArray[np.bool_]:
    """64 bits that resizing, brightness and compression hardly change."""
    bits: NDArray[np.bool_] = imagehash.phash(image.convert("L")).hash.ravel()
    return bits


def near_duplicates(hashes: NDArray[np.bool_]) -> list[int]:
    """For each image the index of the first one that it is, directly or by a chain, a copy of.

    Args:
        hashes: `(N, 64)`, from `perceptual_hash`.
    """
    count = len(hashes)
    if count == 0:
        return []
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    rows, columns = [], []
    for start in range(0, count, 1024):
        distance = (hashes.shape[1] - signs[start : start + 1024] @ signs.T) / 2
        near = np.argwhere(distance <= MAX_DISTANCE)
        rows.append(near[:, 0] + start)
        columns.append(near[:, 1])
    at = (np.concatenate(rows), np.concatenate(columns))
    links = coo_array((np.ones(len(at[0]), dtype=bool), at), shape=(count, count))
    _, component = connected_components(links, directed=False)
    _, first = np.unique(component, return_index=True)
    return [int(i) for i in first[component]]
