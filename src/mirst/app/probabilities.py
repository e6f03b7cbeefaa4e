"""What a model says of an image: the probabilities of the classes, and the set of classes, as `mirst predict`."""

import math

import numpy as np
from torch import Tensor

from mirst.calibration import softmax
from mirst.nn import ModelCard

COVERAGE = 0.9
"""Of the sets of classes."""


def probabilities(card: ModelCard, logits: Tensor) -> dict[str, float]:
    """By class, of `(1, K)` logits, calibrated if the card has a calibration; 0 if the logits are not finite."""
    values = logits.double().cpu().numpy()
    shares = softmax(values) if card.calibration is None else card.calibration.probabilities(values)
    return dict(zip(card.classes, np.nan_to_num(shares[0]).tolist(), strict=True))


def cut(card: ModelCard) -> float | None:
    """The probability of the positive class above which it is predicted; `None` for more than two classes."""
    if len(card.classes) > 2:
        return None
    return 1 / (1 + math.exp(-card.threshold / (1 if card.calibration is None else card.calibration.temperature)))


def class_set(card: ModelCard, logits: Tensor) -> tuple[str, ...] | None:
    """The classes that may be the true one of an image, at `COVERAGE`; `None` without a calibration."""
    if card.calibration is None:
        return None
    (contained,) = card.calibration.sets(logits.double().cpu().numpy(), COVERAGE)
    return tuple(name for name, own in zip(card.classes, contained, strict=True) if own)


def in_every_set(card: ModelCard) -> tuple[str, ...]:
    """The classes with too few validation images to be excluded from a set."""
    if card.calibration is None:
        return ()
    always = card.calibration.in_every_set(COVERAGE)
    return tuple(name for name, own in zip(card.classes, always, strict=True) if own)
