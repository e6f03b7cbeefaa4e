"""What the outlines of masks say about the classes, apart from the size, place and aspect of the lesions.

Outlines drawn by people who knew the diagnosis may show it, such as smooth ones for one class and jagged ones for
another. A model that is given masks, or their shape, then reads the annotators' opinion.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes, gaussian_filter, label, map_coordinates
from scipy.spatial import ConvexHull
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mirst.data.boxes import union_of_masks
from mirst.data.folds import FOLDS, make_folds
from mirst.data.record import Record
from mirst.errors import MirstError

FEWEST = 10
"""Outlines per class that the test needs."""
MOST = 1000
"""Images of which outlines are read, evenly spaced among all."""
GRID, MARGIN, BLUR = 64, 8, 1.5
"""Side of the square that every box is stretched to, its margin, and the blur that hides coarse pixels, in pixels."""
ANGLES, STEPS = 64, 96
"""Directions, and distances in each direction, at which the radius of an outline is looked for."""
BANDS = ((2, 4), (4, 7), (7, 12), (12, 20))
"""Harmonics of the radius, from first to before last."""
FLOOR = 1e-4
"""Power of the harmonics below which the pixels of a mask decide."""
PRECISION = np.array([0.02, 0.015, 0.06, 0.4, 0.3, 0.1, 0.1, 0.1, 0.1, 0.02])
"""How much of each feature may come from the pixels of a mask, and so from its size."""

Mask = NDArray[np.bool_]


def outline_features(mask: Mask) -> NDArray[np.float64]:
    """Numbers that describe the shape of an outline, `(10,)`, without its size, place or aspect.

    The box of the mask is stretched to a square. Of the largest part: its share of the square and of its convex hull;
    log of the squared length of the outline over the area; log of the spread of the radius over its mean, and of its
    power in each of `BANDS`. Of all parts: log of their number, and the share of the largest.

    Args:
        mask: `(H, W)`, with at least one true pixel.

    >>> y, x = np.mgrid[:200, :200]
    >>> small, large = ((x - 90) ** 2 + 4 * (y - 99) ** 2 < radius**2 for radius in (40, 80))
    >>> bool(np.abs(outline_features(small) - outline_features(large))[:3].max() < 0.02)
    True
    """
    soft = _stretched(mask)
    parts, count = label(soft > 0.5)
    sizes = np.bincount(parts.ravel())[1:]
    part = binary_fill_holes(parts == 1 + sizes.argmax())
    area = part.sum()
    radius = _radius(np.where(part, np.maximum(soft, 0.51), np.where(parts > 0, 0.0, soft)), np.argwhere(part).mean(0))
    outline = radius * np.exp(1j * _angles())
    length = np.abs(np.diff(outline, append=outline[0])).sum()
    power = np.abs(np.fft.rfft(radius / radius.mean())) ** 2 / ANGLES**2
    return np.array(
        [
            area / GRID**2,
            area / _hull_area(part),
            np.log(length**2 / area),
            np.log(radius.std() / radius.mean() + 0.02),
            *(np.log(power[first:end].sum() + FLOOR) for first, end in BANDS),
            np.log(count),
            sizes.max() / sizes.sum(),
        ]
    )


def outline_predictions(records: Sequence[Record]) -> pd.DataFrame | None:
    """Predictions of a logistic regression on `outline_features`, each made without the images of its fold.

    The features get noise of `PRECISION`, from a fixed seed: small masks have coarse outlines, which would otherwise
    give away the size of the lesion. Masks that cannot be read, are empty,
    or differ in size from another mask of their image are left out.

    Args:
        records: each in its group.

    Returns:
        A row per outline: `source, image, group, label, prediction, score, fold`; the score is the log-odds of the
        class that is last in alphabetical order. `None` unless there are exactly two classes with outlines, with at
        least `FEWEST` each and with enough groups for the folds.
    """
    some = records[:: -(-len(records) // MOST) or 1]
    outlined = [(record, mask) for record in some if (mask := _outline(record)) is not None]
    own = [record for record, _ in outlined]
    labels = np.array([record.label for record in own])
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) != 2 or counts.min() < FEWEST:
        return None
    try:
        folds = make_folds(own, FOLDS)
    except MirstError:
        return None
    noise = np.random.default_rng(0).normal(size=(len(own), len(PRECISION)))
    features = np.array([outline_features(mask) for _, mask in outlined]) + PRECISION * noise
    table = pd.DataFrame(
        {
            "source": [record.source for record in own],
            "image": [record.name for record in own],
            "group": [record.group for record in own],
            "label": labels,
            "prediction": labels,
            "score": 0.0,
            "fold": 0,
        }
    )
    for number, fold in enumerate(folds):
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
        model.fit(features[fold.train], labels[fold.train])
        table.loc[fold.test, "score"] = model.decision_function(features[fold.test])
        table.loc[fold.test, "fold"] = number
    return table.assign(prediction=np.where(table["score"] > 0, classes[1], classes[0]))


def _outline(record: Record) -> Mask | None:
    try:
        return union_of_masks(record.masks)
    except MirstError:
        return None


def _stretched(mask: Mask) -> NDArray[np.float64]:
    """The box of the mask as a blurred square, with a margin; the largest value is 1."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = Image.fromarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32))
    square = np.asarray(box.resize((GRID, GRID), Image.Resampling.BILINEAR), dtype=np.float64)
    soft = gaussian_filter(np.pad(square, MARGIN), BLUR)
    return np.asarray(soft / soft.max())


def _angles() -> NDArray[np.float64]:
    return np.arange(ANGLES) * 2 * np.pi / ANGLES


def _hull_area(part: Mask) -> float:
    """Of the convex hull of the pixels' centres; the first and the last pixel of each row decide."""
    rows = np.flatnonzero(part.any(1))
    first, last = part[rows].argmax(1), part.shape[1] - 1 - part[rows, ::-1].argmax(1)
    return float(ConvexHull(np.stack([np.tile(rows, 2), np.concatenate([first, last])], axis=1)).volume)


def _radius(soft: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(ANGLES,)`: the largest distance from the centre at which the part is above one half, in pixels."""
    angle = _angles()
    distance = np.linspace(0, GRID, STEPS)
    rays = centre[:, None, None] + np.stack([np.sin(angle), np.cos(angle)])[:, :, None] * distance
    values = map_coordinates(soft, rays, order=1)
    last = STEPS - 1 - (values[:, ::-1] > 0.5).argmax(1)
    last = np.minimum(last, STEPS - 2)
    here, beyond = (np.take_along_axis(values, at[:, None], 1)[:, 0] for at in (last, last + 1))
    share = np.clip((here - 0.5) / np.maximum(here - beyond, 1e-9), 0, 1)
    return np.asarray(distance[last] + share * distance[1])
