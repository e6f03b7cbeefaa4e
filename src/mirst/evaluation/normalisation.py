"""Whether a model lacks a normalisation: it is more accurate on images of another range."""

import math
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mirst.evaluation.judge import in_batches
from mirst.metrics import balanced_accuracy
from mirst.nn.box_fusion import split_box
from mirst.nn.normalized import IMAGENET_MEAN, IMAGENET_STD, Normalized

MIN_GAIN, LEVEL = 0.1, 0.01
"""Gain in balanced accuracy, and level of significance, from which another scaling counts as better."""
CLOSE = 0.02
"""Scalings this close to the best one are named with it."""
MAX_DOUBT = 0.9
"""A model less confident than this counts as untrained: it may separate bright from dark images by chance."""


def missing_normalisation(model: nn.Module, x: Tensor, labels: NDArray[np.int64], logits: Tensor) -> Iterator[str]:
    """One sentence if the model is clearly more accurate on images of another range.

    This needs a few dozen labelled images of two classes or more. A model that is no better than chance on any range
    is not detected. If brightness alone separates the classes, an untrained model may be reported by chance.

    Args:
        x: `(N, C, H, W)` in [0, 1], on the model's device.
        labels: `(N,)`.
        logits: `(N, K)`, the model's logits of `x`.
    """
    present = len(np.unique(labels))
    if present < 2:
        return
    raw = logits.argmax(1).cpu().numpy()
    now = balanced_accuracy(labels, raw)
    better: list[tuple[float, str, str]] = []
    images, box = split_box(model, x)
    scalings = [(name, remedy, torch.cat([scaled, box], 1)) for name, remedy, scaled in _scaled(images)]
    for name, remedy, scaled in scalings:
        with suppress(Exception):  # a model that fails on such images was not trained on them
            rescaled = in_batches(model, scaled)
            other = rescaled.argmax(1).cpu().numpy()
            then = balanced_accuracy(labels, other)
            # a model with swapped classes is worse than chance, so the gain counts from chance on
            clearly = then - max(now, 1 / present) >= MIN_GAIN and _doubt(rescaled, labels) < MAX_DOUBT
            if clearly and _p_value(labels, raw, other) < LEVEL / len(scalings):
                better.append((then, name, remedy))
    if better:
        best = [item for item in better if item[0] >= max(better)[0] - CLOSE]
        names = " or ".join(f"{name} (balanced accuracy {then:.2f})" for then, name, _ in best)
        yield (
            f"it is clearly more accurate on {names} than on pixels in [0, 1] ({now:.2f}), so it seems to lack such a "
            "normalisation; make the one that it was trained with its first layer: "
            + " or ".join(remedy for _, _, remedy in best)
        )


def _doubt(logits: Tensor, labels: NDArray[np.int64]) -> float:
    """Cross-entropy of the median image, averaged over the classes: 1 if all classes are equally likely."""
    losses = F.cross_entropy(logits.double().cpu(), torch.from_numpy(labels), reduction="none").numpy()
    return float(np.mean([np.median(losses[labels == k]) for k in np.unique(labels)])) / math.log(logits.shape[1])


def _scaled(x: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """Other ranges that models are trained on, the nearest first: the name, the remedy, and `x` in that range."""
    rgb = x.shape[1] == 3
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if rgb else ((0.449,), (0.226,))  # gray: averaged over the channels
    for name, values, centre, spread in (
        ("2 * x - 1", "(0.5,), (0.5,)", (0.5,), (0.5,)),
        ("x normalised with ImageNet's mean and deviation", f"{mean}, {std}", mean, std),
        ("255 * x", "(0.0,), (1 / 255,)", (0.0,), (1 / 255,)),
    ):
        yield name, f"mirst.nn.Normalized(model, {values})", Normalized(nn.Identity(), centre, spread).to(x)(x)
    flat = x.flatten(1)
    centre_of, spread_of = (value.view(-1, 1, 1, 1) for value in (flat.mean(1), flat.std(1).clamp_min(1e-6)))
    own = "a module that subtracts each image's own mean and divides by its deviation"
    yield "images standardised one by one", own, (x - centre_of) / spread_of


def _p_value(labels: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """The probability of a gain in balanced accuracy as large as from `first` to `second`, by chance.

    McNemar's sign test with a weight per class. The probability is Hoeffding's bound on a sum of
    random signs, which is slightly too large and never too small.
    """
    weight = 1 / np.bincount(labels)[labels]
    change = weight * ((second == labels).astype(float) - (first == labels))
    gain, spread = float(change.sum()), float(np.square(change).sum())
    return math.exp(-(gain**2) / (2 * spread)) if gain > 0 else 1.0
