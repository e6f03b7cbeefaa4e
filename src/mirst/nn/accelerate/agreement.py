"""Check on the images at hand that an optimized model computes what the model itself computes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakSet

import torch
from torch import Tensor, nn

from mirst.nn.accelerate.folded_batch_norms import folded
from mirst.nn.accelerate.packed_convolutions import packed, packs
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits, input_gradient
from mirst.random_draws import seeded

COMPARED = 4
"""Images of a batch that are compared. Comparing all of them would add several passes to a short attack."""
JITTER = 1e-3
"""Size of the noise that is added to them. In a uniform background all pixels of a max-pool window are equal, and
rounding would decide which one gets the gradient."""
LOGITS_APART, GRADIENTS_APART = 1e-3, 0.05
"""Largest differences that rounding explains: of logits, by the largest logit; of an image's gradient, by its norm."""

TRIES = 2
"""Noise draws. A rounding difference can switch a ReLU whose input is almost 0, and so change the gradient of a small
network by more than `GRADIENTS_APART`; with other noise its input is another. A wrong copy differs with every draw."""

_warned: "WeakSet[nn.Module]" = WeakSet()


def optimized(model: nn.Module, x: Tensor) -> Logits:
    """The logits of the folded copy of `model`. If the two differ on `x`, warn once and use `model` itself.

    Args:
        model: inside `frozen`, in eval mode.
        x: the images to be attacked, `(N, C, H, W)` in [0, 1], at least one.
    """
    itself, fast = Logits(model), folded(model)
    if fast is model:
        with seeded(0, x.device), torch.no_grad():
            itself(_some(x)[:1])
        return itself
    copy = Logits(fast)
    if any(_agree(itself, copy, _some(x, draw)) for draw in range(TRIES)):
        return copy
    _warn(model, "the optimised copy of the model")
    return itself


@contextmanager
def packed_if_equal(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Inside the block the convolutions of `model` are packed, unless that changes its outputs on `x`: then warn once.

    Args:
        model: in the mode in which it will be used.
        x: `(N, C, H, W)` in [0, 1], at least one.
    """
    if not packs(model):
        yield
    elif not any(_packs_equally(model, _some(x, draw)) for draw in range(TRIES)):
        _warn(model, "the model with packed convolutions")
        yield
    else:
        with packed(model):
            yield


def _packs_equally(model: nn.Module, images: Tensor) -> bool:
    net = Logits(model)
    with frozen(model, training=None):
        first = _outputs(net, images)
    with frozen(model, training=None), packed(model):
        second = _outputs(net, images)
    return _close(first, second)


def _some(x: Tensor, draw: int = 0) -> Tensor:
    """A few images from the darkest to the brightest, with a little noise of the seed `draw`."""
    by_brightness = x.detach().flatten(1).mean(1).argsort(stable=True)
    at = torch.linspace(0, len(x) - 1, min(len(x), COMPARED)).long().to(x.device)
    images = x.detach()[by_brightness[at]]
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(draw), dtype=images.dtype).to(
        images.device
    )
    return JITTER + (1 - 2 * JITTER) * images + JITTER * (2 * noise - 1)


def _agree(model: Logits, copy: Logits, images: Tensor) -> bool:
    first = _outputs(model, images)
    with suppress(Exception):  # such as a view of weights, which are stored in another order
        return _close(first, _outputs(copy, images))
    return False


def _outputs(net: Logits, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the darker half with gradients off, logits with gradients on, and the input gradient.

    The two batches differ, since a model may compute its weights from its input.
    """
    with seeded(0, images.device):
        with torch.no_grad():
            off = net(images[: max(1, len(images) // 2)])
        images = images.detach().requires_grad_(True)
        on = net(images)
        weights = torch.rand(on.shape[1], generator=torch.Generator().manual_seed(1), dtype=on.dtype).to(on)
        return off, on.detach(), input_gradient((on * weights).sum(1), images)


def _close(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    *logits, gradient = zip(first, second, strict=True)
    return all(_logits_close(*pair) for pair in logits) and _gradients_close(*gradient)


def _logits_close(first: Tensor, second: Tensor) -> bool:
    finite = first.isfinite()
    scale = first[finite].abs().max().item() if finite.any() else 0.0
    return torch.allclose(second, first, rtol=0, atol=LOGITS_APART * scale + 1e-6, equal_nan=True)


def _gradients_close(first: Tensor, second: Tensor) -> bool:
    norms, apart = first.flatten(1).norm(dim=1), (first - second).flatten(1).norm(dim=1)
    close = apart <= GRADIENTS_APART * norms + 1e-6 * norms.max()
    return bool((close | ~norms.isfinite()).all())


def _warn(model: nn.Module, what: str) -> None:
    if model not in _warned:
        _warned.add(model)
        warnings.warn(
            f"{what} ({type(model).__name__}) gives different outputs than the model, or the outputs change from call "
            "to call; attacks use the model itself, which is slower",
            stacklevel=2,
        )
