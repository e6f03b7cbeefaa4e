"""Checks of a model before any attack: each looks for one flaw and names its remedy."""

from collections import Counter
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from itertools import chain
from typing import cast
from warnings import warn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, IterableDataset

from mirst.attacks.losses import margin
from mirst.batches import Loader, checked_batch, checked_batches, require_labels
from mirst.errors import MirstError
from mirst.evaluation.judge import differ, in_batches, tolerance_of
from mirst.evaluation.normalisation import missing_normalisation
from mirst.nn.device import device_of
from mirst.nn.factory import in_words
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits, input_gradient, logits_of, require_logits
from mirst.random_draws import seeded

IMAGES = 256
"""Number of images of a data set that the checks use, evenly spaced."""
CALLED_TWICE = 16
"""Number of those images that the model is called on again, with gradients too."""
SUM_SLACK = 1e-3
"""Tolerance on the sum of probabilities: half precision and clamping move it a little from 1."""
FLOOR, FLOORED_SHARE = -5.0, 0.05
"""A lowest log-probability below `FLOOR` on more than this share of the images indicates clamping."""
STOCHASTIC_DEPTH = ("DropPath", "StochasticDepth")
"""Class names in timm and torchvision."""
NO_FINITE_LOGITS = (
    "the model's logits are not finite on any image; look for a division by a standard deviation that can be 0, a "
    "logarithm of 0, an overflow in half precision, a class masked with infinity (use -1e9), or weights that "
    "diverged in training"
)


class ModelWarning(UserWarning):
    """A flaw of a model that makes its robustness numbers unreliable: one sentence with the remedy.

    >>> str(ModelWarning("its outputs are probabilities; let it return logits"))
    'its outputs are probabilities; let it return logits'
    """


def require_classes(model: nn.Module, x: Tensor, classes: int) -> None:
    """Raise `MirstError` unless the model takes images like `x` and returns a logit for each of `classes` classes."""
    device = device_of(model)
    with seeded(0, device):
        require_logits(_logits(model, x.to(device)), len(x), classes)


def warn_of_flaws(model: nn.Module, data: Loader) -> Loader:
    """Emit a warning for each flaw that `inspect_model` detects on some images of `data`.

    Returns:
        `data`; or, if it can be iterated only once, an iterator over all of its batches.

    Raises:
        MirstError: as `inspect_model`, except for data without images.
    """
    images, labels, data = _some(data)
    if images:
        alike = [(x, y) for x, y in zip(images, labels, strict=True) if x.shape[1:] == images[0].shape[1:]]
        for flaw in inspect_model(model, *(torch.cat(parts) for parts in zip(*alike, strict=True))):
            warn(flaw, ModelWarning, stacklevel=3)
    return data


def _some(data: Loader) -> tuple[list[Tensor], list[Tensor], Loader]:
    """At most about `IMAGES` images and labels: from all batches, or from the first ones if their number is unknown."""
    if _can_be_iterated_again(data):
        share = -(-IMAGES // max(1, len(cast("Sized", data))))
        picked = [_spread(x, y, share) for x, y in checked_batches(data)]
        return [x for x, _ in picked], [y for _, y in picked], data
    rest = checked_batches(data)
    first: list[tuple[Tensor, Tensor]] = []
    for batch in rest:
        first.append(batch)
        if sum(len(x) for x, _ in first) >= IMAGES:
            break
    return [x for x, _ in first], [y for _, y in first], chain(first, rest)


def _can_be_iterated_again(data: Loader) -> bool:
    if isinstance(data, DataLoader):
        return not isinstance(data.dataset, IterableDataset)
    return isinstance(data, list | tuple)


def _spread(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """At most `count` images and labels, evenly spaced: a data set may be sorted by class."""
    at = np.unique(np.linspace(0, len(x) - 1, min(len(x), count)).astype(int))
    return x[at], y[at]


def inspect_model(model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """Flaws that make the model's robustness numbers unreliable, one sentence each with the remedy; `[]` if none.

    The checks look for outputs that are not finite, layers left in train mode, outputs that differ from call to call
    or with gradients on and off, a missing gradient path, probabilities in place of logits, and a missing
    normalisation. The model and torch's own generators are left unchanged.

    Args:
        model: should map raw images in [0, 1] to `(N, K)` logits.
        x: `(N, C, H, W)` in [0, 1], of the kind that the model was trained on; at most 256 of them are used.
        y: `(N,)` integer labels, in the order of the model's outputs.

    Raises:
        MirstError: no images, images outside [0, 1], a model without weights or that fails on them, one
            that returns anything but floating-point `(N, K)` with K >= 2 and a class for every label, or one
            whose logits are not finite on any image.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Softmax(1)).eval()
    >>> [flaw] = inspect_model(model, torch.rand(8, 1, 2, 2), torch.arange(8) % 2)
    >>> flaw[:29]
    'its outputs are probabilities'
    """
    x, y = checked_batch(x, y)
    device = device_of(model)
    x, y = _spread(x.to(device), y, IMAGES)
    with seeded(0, device):
        logits = _logits(model, x)
        require_labels(y, logits.shape[1])
        if not logits.isfinite().all(1).any():
            raise MirstError(NO_FINITE_LOGITS)
        extremes = in_batches(model, _extreme_images(x))
        probabilities = list(_probabilities(logits, extremes))
        some, labels = _spread(x, y.to(device), CALLED_TWICE)
        return [
            *_not_finite(logits, extremes),
            *_train_mode(model),
            *_changing(model, some),
            *probabilities,
            *_no_gradient(model, some, labels, saturated=bool(probabilities)),
            *missing_normalisation(model, x, y.cpu().numpy(), logits),
        ]


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    """`(N, K)`.

    Raises:
        MirstError: the model has no weights yet, or fails.
    """
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise MirstError(
            "the model has lazy layers without weights; call it once in its factory, then load the weights"
        )
    with _must_accept(
        f"{x.dtype} images of shape {tuple(x.shape[1:])}",
        "if it needs another size or another number of channels, prepare the images accordingly (mirst evaluate: --set "
        "data.size=224 --set data.channels=3), or wrap it in a module whose forward(self, x) has two lines: x = "
        "torch.nn.functional.interpolate(x.expand(-1, 3, -1, -1), (224, 224)); return self.model(x)",
    ):
        return in_batches(model, x)


@contextmanager
def _must_accept(images: str, remedy: str) -> Iterator[None]:
    """Turn whatever the model raises in the block into a `MirstError`."""
    try:
        yield
    except MirstError:
        raise
    except Exception as error:
        raise MirstError(f"the model fails on {images} with {in_words(error)}; {remedy}") from error


def _extreme_images(x: Tensor) -> Tensor:
    """Of the shape of `x`: black, white, gray noise, and black-and-white noise."""
    noise = torch.rand(4, *x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
    return torch.cat([torch.zeros_like(x[:1]), torch.ones_like(x[:1]), noise, noise.round()])


def _not_finite(logits: Tensor, extremes: Tensor) -> Iterator[str]:
    bad, bad_extremes = (int((~outputs.isfinite()).any(1).sum()) for outputs in (logits, extremes))
    if bad or bad_extremes:
        where = f"{bad} of {len(logits)} images" if bad else "plain black, plain white or noise"
        yield (
            f"its outputs are not finite on {where}; look for a division by a standard deviation that can be 0, or for "
            "a logarithm, and add a small constant there"
        )


def _train_mode(model: nn.Module) -> Iterator[str]:
    kinds = Counter(_kind(module) for module in model.modules() if module.training)
    del kinds[""]
    if kinds:
        layers = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        yield (
            f"it is in train mode (layers: {layers}), although it is evaluated in eval mode; call .eval() in its "
            "factory"
        )


def _kind(module: nn.Module) -> str:
    """The kind of a layer that behaves differently in train mode; empty for other layers."""
    if isinstance(module, _BatchNorm):
        return "batch norm"
    if isinstance(module, _DropoutNd) and module.p > 0:
        return "dropout"
    return "stochastic depth" if type(module).__name__ in STOCHASTIC_DEPTH else ""


def _changing(model: nn.Module, x: Tensor) -> Iterator[str]:
    first, second = logits_of(model, x), logits_of(model, x)
    near = tolerance_of(model, first)
    if differ(first, second, near):
        yield (
            "two calls on the same images give different outputs, so the model is random in eval mode and every "
            "result depends on a single random draw; disable the draws, or attack it with the adaptive suite and 20 "
            "draws (--draws 20)"
        )
    elif differ(first, _with_gradients(model, x)[1].detach(), near):
        yield (
            "its outputs differ with gradients on and off, so attacks use a different model than the "
            "evaluation; its forward must not depend on torch.is_grad_enabled() or requires_grad"
        )
    elif differ(first[:1], _alone(model, x[:1]), near):
        yield (
            "its output for an image depends on the other images of the batch, so its numbers depend on how images are "
            "batched; use statistics from training, not from the batch"
        )


def _alone(model: nn.Module, image: Tensor) -> Tensor:
    """The logits of one image: attacks also run on a single image, the last one classified correctly."""
    with _must_accept("a single image", "it must accept batches of any size"):
        return logits_of(model, image)


def _no_gradient(model: nn.Module, x: Tensor, y: Tensor, *, saturated: bool) -> Iterator[str]:
    """Saturated probabilities, which have their own warning, may have a gradient of 0 despite a path."""
    images, outputs = _with_gradients(model, x)
    if not outputs.requires_grad or (not saturated and not input_gradient(margin(outputs, y), images).any()):
        yield (
            "no gradient flows from its outputs to the images (no_grad, detach, rounding, a vote), so gradient attacks "
            "give no evidence about its robustness; remove what stops the gradient, or attack it with the adaptive "
            "suite and a stand-in for that layer (--stand-in LAYER=identity)"
        )


def _with_gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Images that require a gradient, and their logits."""
    images = x.clone().requires_grad_(True)
    remedy = "call .detach() on them before operations without a gradient (numpy, for example)"
    with _must_accept("images that require a gradient", remedy), frozen(model, training=False):
        return images, Logits(model)(images)


def _probabilities(logits: Tensor, extremes: Tensor) -> Iterator[str]:
    """Log-softmax is accepted: it differs from logits by a constant per image, with the same margins and losses."""
    both = torch.cat([logits, extremes])
    if both.min() >= 0 and both.max() <= 1 and _sum_to_one(both):
        full = int((logits.amax(1) > 1 - SUM_SLACK).sum())
        yield (
            f"its outputs are probabilities, saturated on {full} of {len(logits)} images, and the softmax of the "
            "cross-entropy flattens them again, so attacks get small gradients and look weak; return the logits before "
            "the softmax"
        )
    elif both.max() <= SUM_SLACK and _sum_to_one(both.exp()):
        lowest = float(logits.min())
        floored = int((logits < lowest + 1e-4).any(1).sum())
        if lowest < FLOOR and floored > max(2, FLOORED_SHARE * len(logits)):
            yield (
                f"its outputs are logarithms of clamped probabilities, at a minimum of {lowest:.4g} on {floored} of "
                f"{len(logits)} images, where attacks get no gradient; return the logits before the softmax"
            )


def _sum_to_one(rows: Tensor) -> bool:
    return bool(((rows.sum(1) - 1).abs() < SUM_SLACK).all())
