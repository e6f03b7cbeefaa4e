"""Models that were not trained here, held against what the attacks take for granted."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from mirst.attacks.base import frozen
from mirst.batches import checked_batch, require_labels
from mirst.errors import MirstError
from mirst.metrics import balanced_accuracy
from mirst.nn.factory import in_words
from mirst.nn.logits import require_logits
from mirst.nn.models import IMAGENET_MEAN, IMAGENET_STD, Normalized

BATCH_SIZE = 64
SUM_SLACK = 1e-3
"""On a row of probabilities: half precision and clamping leave the sum a little off 1."""
MIN_GAIN, LEVEL = 0.1, 0.01
"""From which gain in balanced accuracy, and at which level of significance, another scaling is called better."""
CLOSE = 0.02
"""Scalings as close as this to the best one are named with it."""
MAX_DOUBT = 0.9
"""A model that doubts more is taken for untrained: it may tell bright from dark by chance, but is not sure of it."""
FLOOR, FLOORED_SHARE = -5.0, 0.05
"""A lowest log-probability below the first that recurs on more than the second of the images is a clamp."""
STOCHASTIC_DEPTH = ("DropPath", "StochasticDepth")
"""As timm and torchvision call it."""


def inspect_model(model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """What speaks against believing the model's robustness, one sentence each with the mend; `[]` where nothing does.

    Looked for are outputs that are not finite, layers left in train mode, probabilities in the place
    of logits, and a normalisation that the model misses. The last is found by answers that are
    clearly better on images of another range, so it takes a few dozen labelled images; a model that
    answers no better than chance on any of them goes unnoticed, and where brightness alone tells the
    classes apart, an untrained model may be found by chance. The model is left as found.

    Args:
        model: should map raw images in [0, 1] to `(N, K)` logits.
        x: `(N, C, H, W)` in [0, 1], of the kind that the model was trained for.
        y: `(N,)` integer labels, in the order of the model's outputs.

    Raises:
        MirstError: no images, images outside [0, 1], a model without weights or that fails on them, or
            one that returns anything but floating-point `(N, K)` with K >= 2 and a class for every label.
    """
    x, y = checked_batch(x, y)
    if not len(x):
        raise MirstError("there are no images to inspect the model on")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise MirstError(
            "the model has lazy layers without weights; let its factory call it once, and load the weights"
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x, labels = x.to(device), y.cpu().long().numpy()
    answers, extremes = _logits(model, x), _logits(model, _extreme_images(x))
    require_labels(y, answers.shape[1])
    return [
        *_not_finite(answers, extremes),
        *_train_mode(model),
        *_probabilities(answers, extremes),
        *_other_scaling(model, x, labels, answers),
    ]


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    with frozen(model, training=False), torch.no_grad():
        return torch.cat([_call(model, x[at : at + BATCH_SIZE]) for at in range(0, len(x), BATCH_SIZE)])


def _call(model: nn.Module, x: Tensor) -> Tensor:
    try:
        outputs = model(x)
    except Exception as error:
        raise MirstError(
            f"the model fails on {x.dtype} images {tuple(x.shape)} with {in_words(error)}; prepare the images in the "
            "channels and size that it takes, or wrap it (mirst.nn.Normalized replicates a gray image to as many "
            "channels as it is given means)"
        ) from error
    return require_logits(outputs, len(x))


def _extreme_images(x: Tensor) -> Tensor:
    """Like `x`: black, white, then noise in gray and in black and white."""
    noise = torch.rand(4, *x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
    return torch.cat([torch.zeros_like(x[:1]), torch.ones_like(x[:1]), noise, noise.round()])


def _not_finite(answers: Tensor, extremes: Tensor) -> Iterator[str]:
    bad, bad_extremes = (int((~outputs.isfinite()).any(1).sum()) for outputs in (answers, extremes))
    if bad or bad_extremes:
        where = f"{bad} of {len(answers)} images" if bad else "plain black, plain white or noise"
        yield (
            f"its outputs are not finite on {where}; look for a division by a deviation that can be 0, or a logarithm, "
            "and give it a small constant"
        )


def _train_mode(model: nn.Module) -> Iterator[str]:
    kinds = Counter(_kind(module) for module in model.modules() if module.training)
    del kinds[""]
    if kinds:
        layers = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        yield (
            f"it was handed over in train mode (layers: {layers}); it is evaluated in eval mode: let its factory "
            "call .eval()"
        )


def _kind(module: nn.Module) -> str:
    """Of a layer that works differently in train mode; empty for others."""
    if isinstance(module, _BatchNorm):
        return "batch norm"
    if isinstance(module, _DropoutNd) and module.p > 0:
        return "dropout"
    return "stochastic depth" if type(module).__name__ in STOCHASTIC_DEPTH else ""


def _probabilities(answers: Tensor, extremes: Tensor) -> Iterator[str]:
    """Log-softmax is a constant per image away from logits: the same margins, the same cross-entropy."""
    both = torch.cat([answers, extremes])
    if both.min() >= 0 and both.max() <= 1 and _sum_to_one(both):
        full = int((answers.amax(1) > 1 - SUM_SLACK).sum())
        yield (
            f"its outputs are probabilities, saturated on {full} of {len(answers)} images, and a second softmax in the "
            "cross-entropy flattens them: attacks find little gradient and look weak; let it return the logits that "
            "go into its softmax"
        )
    elif both.max() <= SUM_SLACK and _sum_to_one(both.exp()):
        lowest = float(answers.min())
        floored = int((answers < lowest + 1e-4).any(1).sum())
        if lowest < FLOOR and floored > max(2, FLOORED_SHARE * len(answers)):
            yield (
                f"its outputs are logarithms of clamped probabilities, at the floor of {lowest:.4g} on {floored} of "
                f"{len(answers)} images, where attacks find no gradient; let it return the logits that go into its "
                "softmax"
            )


def _sum_to_one(rows: Tensor) -> bool:
    return bool(((rows.sum(1) - 1).abs() < SUM_SLACK).all())


def _other_scaling(model: nn.Module, x: Tensor, labels: NDArray[np.int64], answers: Tensor) -> Iterator[str]:
    present = len(np.unique(labels))
    if present < 2:
        return
    raw = answers.argmax(1).cpu().numpy()
    now = balanced_accuracy(labels, raw)
    better: list[tuple[float, str, str]] = []
    scalings = list(_scaled(x))
    for name, mend, scaled in scalings:
        with suppress(MirstError):  # a model that refuses such images does not want them
            logits = _logits(model, scaled)
            other = logits.argmax(1).cpu().numpy()
            then = balanced_accuracy(labels, other)
            # a model with its classes swapped is worse than chance, and nonsense no improvement on it
            clearly = then - max(now, 1 / present) >= MIN_GAIN and _doubt(logits, labels) < MAX_DOUBT
            if clearly and _p_value(labels, raw, other) < LEVEL / len(scalings):
                better.append((then, name, mend))
    if better:
        best = [item for item in better if item[0] >= max(better)[0] - CLOSE]
        names = " or ".join(f"{name} (balanced accuracy {then:.2f})" for then, name, _ in best)
        yield (
            f"it answers clearly better on {names} than on pixels in [0, 1] ({now:.2f}), so it seems to miss such a "
            "normalisation; put the one that it was trained with into its first layer: "
            + " or ".join(mend for _, _, mend in best)
        )


def _doubt(logits: Tensor, labels: NDArray[np.int64]) -> float:
    """Cross-entropy of the typical image, the classes weighing alike: 1 where all classes are equally likely."""
    losses = F.cross_entropy(logits.double().cpu(), torch.from_numpy(labels), reduction="none").numpy()
    return float(np.mean([np.median(losses[labels == k]) for k in np.unique(labels)])) / math.log(logits.shape[1])


def _scaled(x: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """Other ranges that models are trained on, the nearest first: the name, the mend, and `x` brought there."""
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
    """Of a gain in balanced accuracy as large as from `first` to `second`, by chance.

    McNemar's sign test with a weight per class. The probability is Hoeffding's bound on a sum of
    random signs: a little too large, never too small.
    """
    weight = 1 / np.bincount(labels)[labels]
    change = weight * ((second == labels).astype(float) - (first == labels))
    gain, spread = float(change.sum()), float(np.square(change).sum())
    return math.exp(-(gain**2) / (2 * spread)) if gain > 0 else 1.0
