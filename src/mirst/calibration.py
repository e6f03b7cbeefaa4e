"""Calibrated probabilities, and sets of classes that contain the true class at a chosen rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict, Field

from mirst.errors import MirstError

Floats = NDArray[np.float64]
LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of the temperature."""
MOST_SCORES = 10_000
"""Per class, so that the header of a checkpoint stays small."""
ROUNDING = 1e-9
"""By how much a p value and the level may differ by rounding alone."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What images that a model was not trained on say of its logits.

    >>> logits, labels = [[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]], [0, 1, 1, 1]
    >>> found = Calibration.of(logits, labels, groups=["a", "b", "b", "c"])
    >>> round(found.temperature, 2)
    1.99
    >>> found.sets([[0.0, 9.0]], coverage=0.5)
    array([[False,  True]])
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    temperature: Annotated[float, Field(ge=LOWEST, le=HIGHEST)]
    """The logits are divided by it before the softmax."""
    scores: tuple[Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(max_length=MOST_SCORES)], ...]
    """For each class, `nonconformity` of it for the calibration images of the class."""
    sizes: tuple[Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=MOST_SCORES)], ...]
    """For each of `scores`, how many of them are of the same group."""

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike, groups: Sequence[str]) -> "Calibration":
        """From the logits of images that the model was not trained on.

        Args:
            logits: `(N, K)`. An image whose logits are not finite has the score 1, and does not count for the
                temperature.
            labels: `(N,)` integers in 0 to K - 1.
            groups: `(N,)`, which images belong together, such as those of one patient.
        """
        values, truth, names = np.asarray(logits, dtype=float), np.asarray(labels), np.asarray(groups)
        scores = np.nan_to_num(nonconformity(values), nan=1.0)
        kept = [_thinned(np.flatnonzero(truth == k)) for k in range(values.shape[1])]
        return cls(
            temperature=fit_temperature(values, truth),
            scores=tuple(tuple(scores[own, k].tolist()) for k, own in enumerate(kept)),
            sizes=tuple(_sizes(names[own]) for own in kept),
        )

    def require_classes(self, count: int) -> None:
        """Raise `ValueError` unless there are as many classes, and a size for each score."""
        if not len(self.scores) == len(self.sizes) == count:
            raise ValueError(f"its calibration is not of {count} classes")
        if [len(own) for own in self.scores] != [len(own) for own in self.sizes]:
            raise ValueError("its calibration has not one size for each score")

    def probabilities(self, logits: ArrayLike) -> Floats:
        """`softmax(logits / temperature)`, `(N, K)`. The order of the classes is that of the logits."""
        return softmax(np.asarray(logits, dtype=float) / self.temperature)

    def p_values(self, logits: ArrayLike) -> Floats:
        """For each image and class, the p value of "the image is of this class", `(N, K)` in [0, 1].

        With G groups of calibration images of the class it is (1 + the sum over the groups of the share of its images
        whose score is at least that of the new image) / (G + 1). An image whose logits are not finite has 0.

        Source: Lee, Barber and Willett 2023 (hierarchical conformal prediction), for each class apart (Vovk 2012).
        """
        scores = nonconformity(logits)
        columns = [_p_values(scores[:, k], *own) for k, own in enumerate(zip(self.scores, self.sizes, strict=True))]
        return np.stack(columns, 1)

    def sets(self, logits: ArrayLike, coverage: float) -> NDArray[np.bool_]:
        """Which classes the set of each image contains, `(N, K)`: those with a p value above 1 - `coverage`.

        If the images of a new group are exchangeable with those of the calibration groups, the set contains the true
        class with a probability of at least `coverage`, for each class apart. The set of an image whose logits are not
        finite is empty; the sets of all others contain the classes of `in_every_set`.

        Raises:
            MirstError: a coverage that is not above 0 and below 1.
        """
        return self.p_values(logits) > 1 - require_coverage(coverage) + ROUNDING

    def in_every_set(self, coverage: float) -> NDArray[np.bool_]:
        """Which classes have too few calibration groups to be excluded from a set, `(K,)`.

        They have fewer than `coverage / (1 - coverage)`.

        Raises:
            MirstError: as `sets`.

        >>> Calibration.of([[1.0, 0.0]] * 9, [0] * 9, list("abcdefghi")).in_every_set(0.9)
        array([False,  True])
        """
        groups = np.array([_groups(sizes) for sizes in self.sizes])
        return np.asarray(1 / (groups + 1) > 1 - require_coverage(coverage) + ROUNDING)


def require_coverage(coverage: float) -> float:
    """`coverage`, if it is a rate that sets can have.

    Raises:
        MirstError: it is not above 0 and below 1.
    """
    if not 0 < coverage < 1:
        raise MirstError(f"coverage is {coverage:g}; it must be above 0 and below 1, for example 0.9")
    return coverage


def softmax(logits: Floats) -> Floats:
    """Along the last axis; NaN for a row that is not finite."""
    finite = np.isfinite(logits).all(-1, keepdims=True)
    values = np.where(finite, logits, 0.0)
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.where(finite, powers / powers.sum(-1, keepdims=True), np.nan)


def nonconformity(logits: ArrayLike) -> Floats:
    """1 - the probability of each class, uncalibrated, `(N, K)`; NaN for an image whose logits are not finite.

    Source: Sadinle, Lei and Wasserman 2019.

    >>> nonconformity([[0.0, 0.0]])
    array([[0.5, 0.5]])
    """
    return 1 - softmax(np.asarray(logits, dtype=float))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature that minimises the cross-entropy of the calibrated probabilities, in [`LOWEST`, `HIGHEST`].

    With N images the target of the true class is (N + 1) / (N + K), that of each other class 1 / (N + K): without this
    the optimum would be 0 if every image is classified correctly. 1 without an image of finite logits, and where no
    temperature is better.

    Source: Guo et al. 2017; the targets are those of Platt 1999.

    Args:
        logits, labels: as for `Calibration.of`.

    >>> fit_temperature([[0.0, 0.0]], [1])
    1.0
    """
    from scipy.optimize import minimize_scalar  # here, because `import mirst` may not import scipy

    values, truth = np.asarray(logits, dtype=float), np.asarray(labels)
    finite = np.isfinite(values).all(1)
    values, truth = values[finite], truth[finite]
    count, classes = values.shape
    if not count:
        return 1.0
    targets = (count * np.eye(classes)[truth] + 1) / (count + classes)
    values = values - values.max(1, keepdims=True)

    def loss(log_temperature: float) -> float:
        scaled = values / np.exp(log_temperature)
        return float(np.mean(np.log(np.exp(scaled).sum(1)) - (targets * scaled).sum(1)))

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-7})
    better = loss(found.x) < loss(0.0) - 1e-12
    return float(np.clip(np.exp(found.x), LOWEST, HIGHEST)) if better else 1.0


def _thinned(images: NDArray[np.int64]) -> NDArray[np.int64]:
    return images[:: -(-len(images) // MOST_SCORES) or 1]


def _sizes(groups: NDArray[np.str_]) -> tuple[int, ...]:
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return tuple(counts[number].tolist())


def _p_values(scores: Floats, calibration: Sequence[float], sizes: Sequence[int]) -> Floats:
    order = np.argsort(calibration, kind="stable")
    weights = 1 / np.array(sizes, dtype=float)[order]
    at_least = np.append(np.cumsum(weights[::-1])[::-1], 0.0)
    place = np.searchsorted(np.array(calibration, dtype=float)[order], scores, "left")
    return np.where(np.isnan(scores), 0.0, (1 + at_least[place]) / (_groups(sizes) + 1))


def _groups(sizes: Sequence[int]) -> int:
    return round(sum(1 / size for size in sizes))
