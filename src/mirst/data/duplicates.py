"""Near-duplicate images by perceptual hash."""

from collections.abc import Sequence
from pathlib import Path

import imagehash
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mirst.data.images import decode

MAX_DISTANCE = 10
"""Of 64 bits; docs/decisions/group-folds.md says why 10."""


def near_duplicates(paths: Sequence[Path]) -> list[int]:
    """For each image the index of the first one that it is, directly or by a chain, a copy of.

    Raises:
        MirstError: a file cannot be read as an image.
    """
    if not paths:
        return []
    bits = np.stack([imagehash.phash(decode(path)).hash.ravel() for path in paths])
    signs = np.where(bits, np.float32(1), np.float32(-1))
    rows, columns = [], []
    for start in range(0, len(signs), 1024):
        distance = (bits.shape[1] - signs[start : start + 1024] @ signs.T) / 2
        near = np.argwhere(distance <= MAX_DISTANCE)
        rows.append(near[:, 0] + start)
        columns.append(near[:, 1])
    at = (np.concatenate(rows), np.concatenate(columns))
    links = coo_array((np.ones(len(at[0]), dtype=bool), at), shape=(len(paths), len(paths)))
    _, component = connected_components(links, directed=False)
    _, first = np.unique(component, return_index=True)
    return [int(i) for i in first[component]]
