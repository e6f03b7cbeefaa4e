"""What a batch of images and labels must be, wherever one enters: attacks, defenses, evaluation and training."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mirst.errors import MirstError

Loader = Iterable[tuple[Tensor, Tensor]]


def checked_batch(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images and labels that can be attacked and trained on.

    Args:
        x: `(N, C, H, W)`, floating point, in [0, 1].
        y: `(N,)` integers.

    Returns:
        `x` in float32 or float64, detached; `y` in int64.

    Raises:
        MirstError: images or labels of another kind.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise MirstError(f"images must be floating point (N, C, H, W), not {x.dtype} {tuple(x.shape)}")
    if y.shape != x.shape[:1] or y.is_floating_point():
        raise MirstError(f"labels must be {len(x)} integers, not {y.dtype} {tuple(y.shape)}")
    if len(x) and not (x.min() >= 0 and x.max() <= 1):  # also catches NaN
        raise MirstError("images must lie in [0, 1]; normalisation belongs into the model's first layer")
    x = x.detach()
    return x if x.dtype in (torch.float32, torch.float64) else x.float(), y.long()


def require_labels(y: Tensor, classes: int) -> None:
    """Raise `MirstError` unless every label is one of `classes` classes, 0 to `classes - 1`."""
    if len(y) and not (y.min() >= 0 and y.max() < classes):
        raise MirstError(
            f"the labels run from {int(y.min())} to {int(y.max())}, but the model has {classes} classes, 0 to "
            f"{classes - 1}; give it data with its own classes"
        )
