"""Regularisers that keep a short ramp of eps stable (Shi et al. 2021, arXiv 2103.17268, Section 4.3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 0.5
"""tau in the source: how much of a ratio of 1 may be lost without a penalty."""
SMALLEST = 1e-12

Bounds = tuple[Tensor, Tensor]


def stability(images: Bounds, activations: Sequence[Bounds]) -> Tensor:
    """The mean over all ReLU layers of two penalties, each at most about 1 or 2; a scalar.

    The first is above 0 where the mean width of the bounds before a ReLU is more than `1 / TOLERANCE` times that of the
    images. The second is above 0 where active and inactive units are out of balance, in the mean or the variance of
    the centres of their bounds; it is left out for a layer without active or without inactive units.

    Args:
        images: lower and upper bounds of the normalised images, any shape.
        activations: lower and upper bounds before each ReLU, at least one.

    >>> narrow, wide = (torch.zeros(4), torch.ones(4)), (torch.zeros(4), torch.full((4,), 8.0))
    >>> stability(narrow, [wide])
    tensor(0.7500)
    """
    width = (images[1] - images[0]).mean() / 2
    return torch.stack([_tightness(width, *one) + _balance(*one) for one in activations]).mean()


def _tightness(width: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    own = (upper - lower).mean() / 2
    return F.relu(TOLERANCE - width / own.clamp(min=SMALLEST)) / TOLERANCE


def _balance(lower: Tensor, upper: Tensor) -> Tensor:
    active, inactive = lower > 0, upper < 0
    if not (active.any() and inactive.any()):
        return lower.new_zeros(())
    centre = (lower + upper) / 2
    spread = (centre - centre.mean()).square()
    means = (centre * active).mean() / -(centre * inactive).mean()
    variances = (spread * active).sum() / (spread * inactive).sum().clamp(min=SMALLEST)
    return (_penalty(means) + _penalty(variances)) / TOLERANCE


def _penalty(ratio: Tensor) -> Tensor:
    return F.relu(TOLERANCE - torch.minimum(ratio, 1 / ratio.clamp(min=SMALLEST)))
