"""What is wrong with a model, before any attack: each check looks for one fault and names its mend."""

from collections import Counter
from collections.abc import Iterator, Sized
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
from mirst.evaluation.judge import differ, in_batches, seeded, tolerance_of
from mirst.evaluation.normalisation import missing_normalisation
from mirst.nn.device import device_of
from mirst.nn.factory import in_words
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits, input_gradient, logits_of, require_logits

IMAGES = 256
"""As many images of a data set are looked at, spread evenly."""
CALLED_TWICE = 16
"""As many of them are asked again, with gradients too."""
SUM_SLACK = 1e-3
"""On a row of probabilities: half precision and clamping leave the sum a little off 1."""
FLOOR, FLOORED_SHARE = -5.0, 0.05
"""A lowest log-probability below the first that recurs on more than the second of the images is a clamp."""
STOCHASTIC_DEPTH = ("DropPath", "StochasticDepth")
"""As timm and torchvision call it."""
NO_ANSWER = (
    "the model's logits are not finite on any of the images; look for a division by a deviation that can be 0, a "
    "logarithm of 0, an overflow in half precision, a class masked with infinity (take -1e9), or weights that "
    "diverged in training"
)


class ModelWarning(UserWarning):
    """What speaks against believing the numbers of a model ('its ...'): one sentence with the mend."""


def require_classes(model: nn.Module, x: Tensor, classes: int) -> None:
    """Raise `MirstError` unless the model takes images like `x` and returns a logit for each of `classes` classes."""
    device = device_of(model)
    with seeded(0, device):
        require_logits(_answers(model, x.to(device)), len(x), classes)


def warn_of_flaws(model: nn.Module, data: Loader) -> Loader:
    """Warn of each flaw that `inspect_model` finds, on some images of `data`.

    Returns:
        `data`, or, if it may be iterated only once, an iterator that still gives all of its batches.

    Raises:
        MirstError: as `inspect_model`; no images are no flaw.
    """
    images, labels, data = _some(data)
    if images:
        alike = [(x, y) for x, y in zip(images, labels, strict=True) if x.shape[1:] == images[0].shape[1:]]
        for flaw in inspect_model(model, *(torch.cat(parts) for parts in zip(*alike, strict=True))):
            warn(flaw, ModelWarning, stacklevel=3)
    return data


def _some(data: Loader) -> tuple[list[Tensor], list[Tensor], Loader]:
    """At most about `IMAGES` images and labels, from all batches; where their number is unknown, from the first."""
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
    """At most `count` images and labels, evenly spaced: a data set may come class by class."""
    at = np.unique(np.linspace(0, len(x) - 1, min(len(x), count)).astype(int))
    return x[at], y[at]


def inspect_model(model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """What speaks against believing the model's robustness, one sentence each with the mend; `[]` where nothing does.

    Looked for are outputs that are not finite, layers left in train mode, outputs that change from call to call or
    with gradients on and off, a missing gradient path, probabilities in the place of logits, and a normalisation that
    the model misses. The model is left as found, and so are torch's own generators.

    Args:
        model: should map raw images in [0, 1] to `(N, K)` logits.
        x: `(N, C, H, W)` in [0, 1], of the kind that the model was trained for; 256 of them are looked at.
        y: `(N,)` integer labels, in the order of the model's outputs.

    Raises:
        MirstError: no images, images outside [0, 1], a model without weights or that fails on them, one
            that returns anything but floating-point `(N, K)` with K >= 2 and a class for every label, or one
            whose logits are not finite on any image.
    """
    x, y = checked_batch(x, y)
    device = device_of(model)
    x, y = _spread(x.to(device), y, IMAGES)
    with seeded(0, device):
        answers = _answers(model, x)
        require_labels(y, answers.shape[1])
        if not answers.isfinite().all(1).any():
            raise MirstError(NO_ANSWER)
        extremes = in_batches(model, _extreme_images(x))
        probabilities = list(_probabilities(answers, extremes))
        some, labels = _spread(x, y.to(device), CALLED_TWICE)
        return [
            *_not_finite(answers, extremes),
            *_train_mode(model),
            *_changing(model, some),
            *probabilities,
            *_no_gradient(model, some, labels, saturated=bool(probabilities)),
            *missing_normalisation(model, x, y.cpu().numpy(), answers),
        ]


def _answers(model: nn.Module, x: Tensor) -> Tensor:
    """`(N, K)`.

    Raises:
        MirstError: the model has no weights yet, or fails, in a sentence with the mend.
    """
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise MirstError(
            "the model has lazy layers without weights; let its factory call it once, and load the weights"
        )
    try:
        return in_batches(model, x)
    except MirstError:
        raise
    except Exception as error:
        raise MirstError(_failure(x, error)) from error


def _failure(x: Tensor, error: Exception) -> str:
    return (
        f"the model fails on {x.dtype} images of shape {tuple(x.shape[1:])} with {in_words(error)}; if it takes "
        "another size or another number of channels, prepare the images so (mirst evaluate: --set data.size=224 --set "
        "data.channels=3), or wrap it in a module whose forward(self, x) has two lines: x = "
        "torch.nn.functional.interpolate(x.expand(-1, 3, -1, -1), (224, 224)); return self.model(x)"
    )


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


def _changing(model: nn.Module, x: Tensor) -> Iterator[str]:
    first, second = logits_of(model, x), logits_of(model, x)
    near = tolerance_of(model, first)
    if differ(first, second, near):
        yield (
            "two calls on the same images give different outputs, so it draws at random in eval mode and each number "
            "is that of one draw; turn the draws off, or attack it with the adaptive suite and 20 draws (--draws 20)"
        )
    elif differ(first, _with_gradients(model, x)[1].detach(), near):
        yield (
            "its outputs differ with gradients on and off, so attacks see another model than the one that is judged; "
            "let its forward ask neither torch.is_grad_enabled() nor requires_grad"
        )
    elif differ(first[:1], _alone(model, x[:1]), near):
        yield (
            "its output for an image depends on the other images of the batch, so its numbers depend on how images are "
            "put together; let it take statistics from training, not from the batch"
        )


def _alone(model: nn.Module, image: Tensor) -> Tensor:
    """The logits of one image; an attack comes down to a single one that is still classified right."""
    try:
        return logits_of(model, image)
    except MirstError:
        raise
    except Exception as error:
        raise MirstError(
            f"the model fails on a single image with {in_words(error)}; let it take batches of any size"
        ) from error


def _no_gradient(model: nn.Module, x: Tensor, y: Tensor, *, saturated: bool) -> Iterator[str]:
    """Saturated probabilities, which are named as such, may have a gradient of 0 although there is a path."""
    images, outputs = _with_gradients(model, x)
    if not outputs.requires_grad or (not saturated and not input_gradient(margin(outputs, y), images).any()):
        yield (
            "no gradient leads from its outputs to the images (no_grad, detach, rounding, a vote), so gradient attacks "
            "say nothing about it; remove what stops the gradient, or attack it with the adaptive suite and a stand-in "
            "for that layer (--stand-in LAYER=identity)"
        )


def _with_gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Images that ask for a gradient, and their logits."""
    images = x.clone().requires_grad_(True)
    try:
        with frozen(model, training=False):
            return images, Logits(model)(images)
    except MirstError:
        raise
    except Exception as error:
        raise MirstError(
            f"the model fails on images that ask for a gradient with {in_words(error)}; let it call .detach() on them "
            "before what has no gradient (numpy, for example)"
        ) from error


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
