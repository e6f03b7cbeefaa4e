"""Candidates for copies: for each image its nearest neighbours among all images, crops and mirror images included.

An image is described by small views of it, without brightness and local contrast: the whole image and crops. The
views are whitened over the data set, so that what all images share (a pose, a border, an overlay) counts little. A
few numbers of every view are compared with those of whole images. An index limits the comparisons in a large data set:
whole images are divided into cells around centres, and a view is compared with those of the nearest cells only.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mirst.data.sampling import Interval, Stack, blurred, sampling_matrix
from mirst.data.threads import OnStage, in_threads, no_stage

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
"""Images whose views are compared at a time, and the most whole images of a cell that they are compared with."""
EXHAUSTIVE = 4000
"""Images up to which every view is compared with every whole image."""
PROBED = 12
"""Cells with whose images a view is compared."""
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


def find_candidates(images: Stack, on_stage: OnStage = no_stage) -> list[Candidate]:
    """For each of `(N, side, side)` images its `NEIGHBOURS` nearest ones, each pair once."""
    if len(images) < 2:
        return []
    projection, flips = _basis(images)
    views = _projected(images, projection)
    index = _Index(views[:, 0].astype(np.float32))
    best: dict[tuple[int, int], Candidate] = {}
    starts = range(0, len(views), BLOCK)
    for found in in_threads(
        lambda start: _nearest(views, flips, start, index), starts, "searching for similar images", on_stage
    ):
        for candidate in found:
            pair = (min(candidate.cropped, candidate.whole), max(candidate.cropped, candidate.whole))
            if pair not in best or candidate.similarity > best[pair].similarity:
                best[pair] = candidate
    return [best[pair] for pair in sorted(best)]


class Neighbours:
    """Images among which the nearest ones of a new image are found, as by `find_candidates`.

    Args:
        images: `(N, side, side)`.
    """

    def __init__(self, images: Stack) -> None:
        self._projection, self._flips = _basis(images)
        self._views = _projected(images, self._projection)

    def of(self, image: NDArray[np.uint8]) -> list[Candidate]:
        """The nearest ones of `(side, side)`, whose number in the candidates is N: it or the other is cropped."""
        new, number = _projected(image[None], self._projection)[0].astype(np.float32), len(self._views)
        crops = (self._flips[:, None] * new).reshape(-1, DIMENSIONS)
        parts = [self._views[start : start + CHUNK].astype(np.float32) for start in range(0, number, CHUNK)]
        of_crops = np.concatenate([crops @ part[:, 0].T for part in parts], axis=1)
        whole = self._flips * new[0]
        of_whole = np.concatenate(
            [(whole @ part.transpose(0, 2, 1)).reshape(len(part), -1).T for part in parts], axis=1
        )
        return [
            Candidate(*((number, other) if similarity is of_crops else (other, number)), *_spans(view), value)
            for similarity in (of_crops, of_whole)
            for other, view, value in _best(similarity)
            if value >= LEAST
        ]


def _best(similarity: Views) -> list[tuple[int, int, float]]:
    """The images with the largest similarities `(views, N)`, the view that has it, and its value."""
    largest = similarity.max(axis=0)
    nearest = np.argsort(-largest, kind="stable")[:NEIGHBOURS]
    return [(int(other), int(similarity[:, other].argmax()), float(largest[other])) for other in nearest]


def _basis(images: Stack) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The projection of views to `DIMENSIONS` numbers, and their signs in each of the `ORIENTATIONS`."""
    projection, parities = _whitening(images[:: max(1, len(images) // SAMPLE)])
    signs = [np.where(parities[0], down, 1) * np.where(parities[1], across, 1) for down, across in ORIENTATIONS]
    return projection, np.array(signs, dtype=np.float32)


def _spans(view: int) -> tuple[Interval, Interval]:
    """Rows and columns of one of the oriented views of an image."""
    (down, across), ((top, bottom), (left, right)) = ORIENTATIONS[view // len(BOXES)], BOXES[view % len(BOXES)]
    return (top, bottom) if down > 0 else (bottom, top), (left, right) if across > 0 else (right, left)


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


class _Index:
    """Whole images in cells around centres; images of a cell resemble each other."""

    def __init__(self, wholes: Views) -> None:
        self.wholes = wholes
        count = 1 if len(wholes) <= EXHAUSTIVE else round(len(wholes) ** 0.5)
        centres, cell_of = _centres(wholes, count)
        self._centres = centres
        self._cells = [cell[i : i + CHUNK] for cell in cell_of for i in range(0, len(cell), CHUNK)]
        self._centre_of = [centre for centre, cell in enumerate(cell_of) for _ in range(0, len(cell), CHUNK)]

    def similarities(self, queries: Views, rows: NDArray[np.intp], count: int) -> Views:
        """`(count, wholes)`: the largest cosine of the queries of each row, -inf where none was compared.

        Args:
            rows: of each query, in ascending order.
        """
        similarity = np.full((count, len(self.wholes)), -np.inf, np.float32)
        probed = self._probed(queries)
        for cell, centre in zip(self._cells, self._centre_of, strict=True):
            asked = np.flatnonzero(probed[:, centre])
            if len(asked) == 0:
                continue
            products = queries[asked] @ self.wholes[cell].T
            present, first = np.unique(rows[asked], return_index=True)
            similarity[np.ix_(present, cell)] = np.maximum.reduceat(products, first, axis=0)
        return similarity

    def _probed(self, queries: Views) -> NDArray[np.bool_]:
        if len(self._centres) <= PROBED:
            return np.ones((len(queries), len(self._centres)), bool)
        closeness = queries @ self._centres.T
        least = np.partition(closeness, -PROBED, axis=1)[:, -PROBED, None]
        return np.asarray(closeness >= least)


def _centres(wholes: Views, count: int) -> tuple[Views, list[NDArray[np.intp]]]:
    """`(count, dimensions)` unit vectors, and the images of each cell."""
    if count == 1:
        return wholes[:1], [np.arange(len(wholes))]
    from sklearn.cluster import MiniBatchKMeans  # here, because it takes a second to import

    with threadpool_limits(1):
        clusters = MiniBatchKMeans(count, batch_size=4096, max_iter=20, n_init=1, random_state=0).fit(wholes)
    centres = clusters.cluster_centers_ / (np.linalg.norm(clusters.cluster_centers_, axis=1, keepdims=True) + 1e-6)
    nearest = (wholes @ centres.T).argmax(axis=1)
    return centres.astype(np.float32), [np.flatnonzero(nearest == cell) for cell in range(count)]


def _nearest(views: Views, flips: Views, start: int, index: _Index) -> list[Candidate]:
    """The nearest whole images of crops and mirror images of the images from `start`."""
    block = views[start : start + BLOCK].astype(np.float32)
    oriented = (block[:, None] * flips[:, None, :]).reshape(len(block), -1, views.shape[2])
    rows = np.repeat(np.arange(len(block)), oriented.shape[1])
    similarity = index.similarities(oriented.reshape(-1, views.shape[2]), rows, len(block))
    own = np.arange(len(block))
    similarity[own, start + own] = -np.inf
    count = min(NEIGHBOURS, len(views) - 1)
    nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    found = []
    for row, others in enumerate(nearest):
        products = oriented[row] @ index.wholes[others].T
        for other, view, value in zip(others, products.argmax(axis=0), products.max(axis=0), strict=True):
            if value >= LEAST:
                found.append(Candidate(start + row, int(other), *_spans(int(view)), float(value)))
    return found
