"""Linear classifiers of a thumbnail and of the lesion's box, whose worst case under attack is exact."""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

SIDE = 8
"""Of a thumbnail, in pixels."""
BOX = 2
"""Number of features of a box."""
C = 0.1
"""Inverse strength of the penalty, as in scikit-learn's `LogisticRegression`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearBaseline:
    """Log-odds that are linear in the pixels and in the features of the box.

    >>> baseline = LinearBaseline(np.full((1, 2, 2), -1.0), np.zeros(2), intercept=1.0, typical_box=np.zeros(2))
    >>> images, boxes = np.full((1, 1, 2, 2), 0.125), np.zeros((1, 2))
    >>> baseline.score(images, boxes)
    array([0.5])
    >>> baseline.worst_case(images, boxes, np.array([True]), eps=0.25)
    (array([-0.5]), array([0.25]))
    """

    pixels: Floats
    """`(C, H, W)`: by how much the log-odds grow with each pixel."""
    box: Floats
    """`(2,)`: by how much they grow with each feature of the box."""
    intercept: float
    typical_box: Floats
    """`(2,)`: the features of an image whose box is not known."""

    def score(self, images: Floats, boxes: Floats) -> Floats:
        """Log-odds of the positive class, `(N,)`.

        Args:
            images: `(N, C, H, W)` in [0, 1].
            boxes: `(N, 2)` features, NaN where a box is not known.
        """
        known = filled(boxes, self.typical_box)
        return np.tensordot(images, self.pixels, axes=3) + known @ self.box + self.intercept

    def worst_case(
        self, images: Floats, boxes: Floats, is_positive: NDArray[np.bool_], eps: float
    ) -> tuple[Floats, Floats]:
        """The score that is farthest on the wrong side, and the L-infinity distance of an image that has it.

        The score is linear in the pixels, so each pixel goes as far as `eps` and the range [0, 1] allow, in the
        direction of its weight: no attack within `eps` does better. The box stays as it is. Every image is moved, also
        one that is misclassified without an attack.

        Args:
            images, boxes: as for `score`.
            is_positive: `(N,)`, the labels.
            eps: in units of the [0, 1] pixel range.
        """
        sign = np.where(is_positive, -1.0, 1.0)[:, None, None, None] * np.sign(self.pixels)
        moved = np.clip(images + eps * sign, 0.0, 1.0)
        return self.score(moved, boxes), np.abs(moved - images).max(axis=(1, 2, 3))


def fit_baseline(
    images: Floats, boxes: Floats, is_positive: NDArray[np.bool_], *, thumbnail: bool, box: bool, eps: float = 0.0
) -> LinearBaseline:
    """Logistic regression on a thumbnail of `SIDE` x `SIDE` block means, on the features of the box, or on both.

    The features are standardised, and the classes have equal weight. A box that is not known counts as the mean box.

    Args:
        images, boxes, is_positive: of the training images, as for `LinearBaseline`; both classes.
        thumbnail, box: what to use; at least one.
        eps: radius of the attacks to train against, in units of the [0, 1] pixel range; 0: none. The loss is that of
            the worst case within `eps`, as if no pixel were close to 0 or 1.

    >>> images = np.linspace(0, 1, 6)[:, None, None, None] * np.ones((1, 16, 16))
    >>> baseline = fit_baseline(images, np.zeros((6, 2)), np.arange(6) > 2, thumbnail=True, box=False)
    >>> (baseline.score(images, np.zeros((6, 2))) > 0).tolist()
    [False, False, False, True, True, True]
    """
    channels, height, width = images.shape[1:]
    is_known = np.isfinite(boxes).all(1)
    typical = boxes[is_known].mean(0) if is_known.any() else np.zeros(BOX)
    features = np.hstack([thumbnails(images).reshape(len(images), -1), filled(boxes, typical)])
    used = np.array([thumbnail] * channels * SIDE**2 + [box] * BOX)
    is_pixel = np.arange(len(used)) < len(used) - BOX
    weights = np.zeros(len(used))
    weights[used], intercept = _logistic_regression(features[:, used], is_positive, eps * is_pixel[used])
    return LinearBaseline(
        pixels=_pooling(height).T @ weights[is_pixel].reshape(channels, SIDE, SIDE) @ _pooling(width),
        box=weights[~is_pixel],
        intercept=intercept,
        typical_box=typical,
    )


def _logistic_regression(features: Floats, is_positive: NDArray[np.bool_], reach: Floats) -> tuple[Floats, float]:
    """Weights of the features and intercept, trained on the worst case of features that move by up to `reach`.

    The worst case lowers each margin by `reach @ abs(weights)`. Weights are the difference of two parts >= 0, so that
    the loss is smooth and convex in them.
    """
    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    standardised, reach = (features - mean) / scale, reach / scale
    side = np.where(is_positive, 1.0, -1.0)
    share = np.where(is_positive, 0.5 / is_positive.mean(), 0.5 / (~is_positive).mean())
    count = len(reach)

    def loss(parts: Floats, *_: object) -> tuple[float, Floats]:
        up, down, intercept = parts[:count], parts[count:-1], parts[-1]
        weights = up - down
        margin = side * (standardised @ weights + intercept) - (up + down) @ reach
        slope = -C * share * scipy.special.expit(-margin)
        along, worse = standardised.T @ (slope * side), -slope.sum() * reach
        gradient = np.concatenate([weights + along + worse, -weights - along + worse, [slope @ side]])
        return C * float(share @ np.logaddexp(0, -margin)) + 0.5 * float(weights @ weights), gradient

    found = scipy.optimize.minimize(
        loss,
        np.zeros(2 * count + 1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * count) + [(None, None)],
        options={"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-14, "gtol": 1e-7},
    )
    parts = found.x
    weights = (parts[:count] - parts[count:-1]) / scale
    return weights, float(parts[-1] - mean @ weights)


def thumbnails(images: Floats) -> Floats:
    """Means over `SIDE` x `SIDE` blocks, `(N, C, SIDE, SIDE)`, of images `(N, C, H, W)`.

    Blocks overlap by a pixel if the sides of the images are no multiples of `SIDE`.
    """
    return np.asarray(_pooling(images.shape[2]) @ images @ _pooling(images.shape[3]).T)


def filled(boxes: Floats, typical: Floats) -> Floats:
    """The features with `typical` ones where a box is not known."""
    return np.where(np.isfinite(boxes).all(1, keepdims=True), boxes, typical)


def _pooling(side: int) -> Floats:
    """`(SIDE, side)`: the weight of each pixel of a row in the mean of each block."""
    weights = np.zeros((SIDE, side))
    for block in range(SIDE):
        first, end = block * side // SIDE, -(-(block + 1) * side // SIDE)
        weights[block, first:end] = 1 / (end - first)
    return weights
