"""Metrics of a model whose lesion boxes are misplaced: no two radiologists draw the same box."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirst.data import ImageSet, Placements, data_loader, scored_index
from mirst.errors import MirstError
from mirst.evaluation.judge import BATCH_SIZE, judge
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.metrics import classification_metrics, study_metrics
from mirst.nn.device import device_of
from mirst.nn.logits import logits_of

REACHES = (0.05, 0.1, 0.2)
"""By how much boxes are shifted and scaled, as shares of their width and height."""
PLACEMENT = ("shift_x", "shift_y", "scale_x", "scale_y")
WORST = "worst"
"""In column `placement`: the worst of all placements of this reach, image by image."""


def evaluate_boxes(
    model: nn.Module,
    images: ImageSet,
    classes: Sequence[str],
    positive: str | None,
    *,
    threshold: float = 0.0,
    on_progress: OnProgress = no_progress,
) -> pd.DataFrame:
    """Metrics of `model` with the boxes as they are, and with all of them misplaced.

    For each of `REACHES` the centre of every box is shifted by minus that share, 0 or that share of its width and of
    its height, and its width and height are multiplied by 1 minus it, 1 or 1 plus it: 81 placements. A model that has
    the box as an input gets the misplaced one.

    Args:
        images: crops around lesions with their surroundings, not augmented.

    Returns:
        `reach, placement, shift_x, shift_y, scale_x, scale_y` and all metrics. The first row has reach 0 and the
        placement `true`. Each reach has one row for each placement, `moved`, and one row `worst` without shifts and
        scales: an image counts as misclassified if a placement of this or a smaller reach makes the model misclassify
        it, and its score is the worst of them.

    Raises:
        MirstError: whole images, or a model whose output is not `(N, K)` logits.
    """
    index = scored_index(classes, positive)

    def classify(placed: ImageSet) -> list[Outcome]:
        return [_outcome(model, placed, index, threshold)]

    (table,) = placement_tables(classify, images, classes, positive, on_progress)
    return table


class Outcome(NamedTuple):
    """What a classifier says of N images.

    >>> Outcome(np.array([0.5, -1.0]), np.array([1, 0])).prediction
    array([1, 0])
    """

    score: NDArray[np.float64]
    """`(N,)` log-odds of the positive class."""
    prediction: NDArray[np.int64]
    """`(N,)` class indices."""

    def or_worse(self, other: "Outcome", label: NDArray[np.int64], positive: int) -> "Outcome":
        """The worse of both for each image."""
        lower = np.where(label == positive, self.score > other.score, self.score < other.score)
        misclassified = (self.prediction == label) & (other.prediction != label)
        return Outcome(
            np.where(lower, other.score, self.score), np.where(misclassified, other.prediction, self.prediction)
        )


def placement_tables(
    classify: Callable[[ImageSet], Sequence[Outcome]],
    images: ImageSet,
    classes: Sequence[str],
    positive: str | None,
    on_progress: OnProgress = no_progress,
) -> list[pd.DataFrame]:
    """The table of `evaluate_boxes` for each of several classifiers.

    Args:
        classify: the outcomes of all classifiers for the images with their boxes in one place.
        images, classes, positive, on_progress: as for `evaluate_boxes`.

    Raises:
        MirstError: whole images.
    """
    if images.lesions is None:
        raise MirstError(
            "the model takes whole images, so there is no box to misplace; train it with data.view: lesion"
        )
    index, names, total = scored_index(classes, positive), np.array(classes), len(REACHES) * 3 ** len(PLACEMENT)

    def row(reach: float, placement: str, placed: Sequence[float], outcome: Outcome) -> dict[str, Any]:
        metrics = classification_metrics(
            names[images.labels], names[outcome.prediction], outcome.score, classes, positive
        )
        return {"reach": reach, "placement": placement, **dict(zip(PLACEMENT, placed, strict=False)), **metrics}

    worst = classify(images)
    rows = [[row(0.0, "true", (0, 0, 0, 0), outcome)] for outcome in worst]
    for number, (reach, placed) in enumerate(product(REACHES, product((-1, 0, 1), repeat=len(PLACEMENT)))):
        on_progress(Progress("misplaced boxes", 0.0, number * len(images), total * len(images)))
        by = [reach * step for step in placed]
        outcomes = classify(_misplaced(images, by))
        worst = [one.or_worse(other, images.labels, index) for one, other in zip(worst, outcomes, strict=True)]
        for own, outcome, worst_outcome in zip(rows, outcomes, worst, strict=True):
            own.append(row(reach, "moved", by, outcome))
            if all(step == 1 for step in placed):  # the last placement of this reach
                own.append(row(reach, WORST, (), worst_outcome))
    on_progress(Progress("misplaced boxes", 0.0, total * len(images), total * len(images)))
    return [pd.DataFrame(own, columns=["reach", "placement", *PLACEMENT, *study_metrics(positive)]) for own in rows]


def _misplaced(images: ImageSet, by: Sequence[float]) -> ImageSet:
    assert images.lesions is not None  # `placement_tables` has checked it
    placements = Placements.fixed(len(images), **dict(zip(PLACEMENT, by, strict=True)))
    return replace(images, lesions=images.lesions.misplaced(placements))


def _outcome(model: nn.Module, images: ImageSet, positive: int, threshold: float) -> Outcome:
    device = device_of(model)
    parts: list[tuple[Tensor, Tensor]] = []
    for x, y in data_loader(images, BATCH_SIZE):
        logits = logits_of(model, x.to(device)).cpu()
        parts.append(judge(logits, y, positive, threshold))
    score, prediction = (torch.cat(values).numpy() for values in zip(*parts, strict=True))
    return Outcome(score, prediction)
