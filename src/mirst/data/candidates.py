"""Candidates for copies: for each image its nearest neighbours among all images, crops and mirror images included.

An image is described by small views of it, without brightness and local contrast: the whole image and crops. The
views are whitened over the data set, so that what all images share (a pose, a border, an overlay) counts little. A
few numbers of every view are compared with those of every whole image, in blocks, so memory does not grow with the
square of the number of images.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mirst.data.sampling import Interval, Stack, blurred, sampling_matrix
from mirst.data.threads import in_threads

NEIGHBOURS = 8
"""How many candidates an image has, apart from those for which it is one."""
LEAST = 0.3
"""Similarity below which a neighbour is no candidate."""
SIDE = 16
DIMENSIONS = 96
"""Numbers of a view that are compared."""
SHRINKAGE = 0.02
"""Added to the variances by which views are whitened, as a share of the largest."""
SAMPLE = 2000
"""Images from which the whitening is estimated."""
BATCH = 64
BLOCK, CHUNK = 16, 2048
"""Images whose views are compared at a time, and with how many."""
ORIENTATIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Steps along rows and columns: unchanged, mirrored, upside down, both."""

Views = NDArray[np.floating]


def _boxes() -> list[tuple[Interval, Interval]]:
    """Rows and columns of the whole image, and of crops with 92 to 71 % of its sides."""
    boxes = [((0.0, 1.0), (0.0, 1.0))]
    for share, count in ((0.92, 2), (0.85, 3), (0.78, 3), (0.71, 4)):
        starts = [(start, start + share) for start in np.linspace(0, 1 - share, count)]
        boxes += [(rows, columns) for rows, columns in product(starts, starts)]
    return boxes


BOXES = _boxes()


@dataclass(frozen=True)
class Candidate:
    """How one image must be cropped and mirrored to resemble the whole of another."""

    cropped: int
    whole: int
    rows: Interval
    """Of the cropped image, in shares of its height; from high to low if it is upside down."""
    columns: Interval
    similarity: float
    """Cosine of the whitened views."""


def find_candidates(images: Stack) -> list[Candidate]:
    """For each of `(N, side, side)` images its `NEIGHBOURS` nearest ones, each pair once."""
    if len(images) < 2:
        return []
    projection, parities = _whitening(images[:: max(1, len(images) // SAMPLE)])
    views = _projected(images, projection)
    signs = [np.where(parities[0], down, 1) * np.where(parities[1], across, 1) for down, across in ORIENTATIONS]
    flips = np.array(signs, dtype=np.float32)
    best: dict[tuple[int, int], Candidate] = {}
    for found in in_threads(lambda start: _nearest(views, flips, start), range(0, len(views), BLOCK)):
        for candidate in found:
            pair = (min(candidate.cropped, candidate.whole), max(candidate.cropped, candidate.whole))
            if pair not in best or candidate.similarity > best[pair].similarity:
                best[pair] = candidate
    return [best[pair] for pair in sorted(best)]


def _describe(images: Stack) -> Views:
    """`(n, boxes, SIDE * SIDE)` views of local contrast 1."""
    pixels = images.astype(np.float32)
    views = []
    for rows, columns in BOXES:
        down, across = (sampling_matrix(np.array([span]), images.shape[1], SIDE)[0] for span in (rows, columns))
        view = down @ pixels @ across.T
        deviation = view - blurred(view, 2.5)
        views.append(deviation / (np.sqrt(blurred(deviation**2, 2.5)) + 3))
    return np.stack(views, axis=1).reshape(len(images), len(BOXES), SIDE * SIDE)


def _projected(images: Stack, projection: NDArray[np.float32]) -> Views:
    """`(N, boxes, DIMENSIONS)` unit vectors, in half precision."""

    def project(start: int) -> Views:
        views = _describe(images[start : start + BATCH]) @ projection
        views /= np.linalg.norm(views, axis=2, keepdims=True) + 1e-6
        return views.astype(np.float16)

    return np.concatenate(in_threads(project, range(0, len(images), BATCH)))


def _whitening(sample: Stack) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """From views to `DIMENSIONS` numbers of similar variance, and which of them a flip of rows or columns negates.

    The numbers are principal components. Each is even or odd along each axis, so a flip changes its sign at most.
    """
    views = np.concatenate(in_threads(_describe, [sample[i : i + BATCH] for i in range(0, len(sample), BATCH)]))
    views = views.reshape(-1, SIDE * SIDE)
    bases, parities, variances = [], [], []
    for odd in product((False, True), repeat=2):
        basis = np.kron(*(_parity_basis(one) for one in odd))
        values = views @ basis.astype(np.float32)
        variance, vectors = np.linalg.eigh(values.T @ values / len(values))
        bases.append(basis @ vectors)
        variances.append(variance)
        parities += [odd] * len(variance)
    variance = np.concatenate(variances)
    chosen = np.argsort(-variance)[:DIMENSIONS]
    scale = 1 / np.sqrt(variance[chosen] + SHRINKAGE * variance.max() + 1e-9)
    return (np.concatenate(bases, axis=1)[:, chosen] * scale).astype(np.float32), np.array(parities)[chosen].T


def _parity_basis(odd: bool) -> NDArray[np.float64]:
    """`(SIDE, SIDE / 2)`: an orthonormal basis of the vectors that a flip keeps, or negates."""
    half = np.eye(SIDE)[:, : SIDE // 2]
    return np.asarray((half - half[::-1] if odd else half + half[::-1]) / np.sqrt(2))


def _nearest(views: Views, flips: Views, start: int) -> list[Candidate]:
    """The nearest whole images of crops and mirror images of the images from `start`."""
    block = views[start : start + BLOCK].astype(np.float32)
    wholes = views[:, 0].astype(np.float32)
    oriented = (block[:, None] * flips[:, None, :]).reshape(len(block), -1, views.shape[2])
    queries = oriented.reshape(-1, views.shape[2])
    similarity = np.empty((len(block), len(views)), np.float32)
    for first in range(0, len(views), CHUNK):
        whole = wholes[first : first + CHUNK]
        similarity[:, first : first + CHUNK] = (queries @ whole.T).reshape(len(block), -1, len(whole)).max(axis=1)
    own = np.arange(len(block))
    similarity[own, start + own] = -np.inf
    count = min(NEIGHBOURS, len(views) - 1)
    nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    found = []
    for row, others in enumerate(nearest):
        products = oriented[row] @ wholes[others].T
        for other, view, value in zip(others, products.argmax(axis=0), products.max(axis=0), strict=True):
            (down, across), box = ORIENTATIONS[view // len(BOXES)], BOXES[view % len(BOXES)]
            rows, columns = (span[::step] for span, step in zip(box, (down, across), strict=True))
            if value >= LEAST:
                found.append(Candidate(start + row, int(other), rows, columns, float(value)))
    return found
