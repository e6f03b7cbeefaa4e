"""Regularisers that keep a short ramp of eps stable (Shi et al. 2021, arXiv 2103.17268, Section 4.3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mirst.nn.accelerate.interval_training import box_sums

TOLERANCE = 0.5
"""tau in the source: a ratio above it costs nothing."""
SMALLEST = 1e-12

CentreAndRadius = tuple[Tensor, Tensor]


def stability(images: CentreAndRadius, activations: Sequence[CentreAndRadius]) -> Tensor:
    """The mean of the regularisers over the layers before all ReLUs, a scalar in float64.

    The first regulariser of a layer is above 0 where its bounds are on average more than `1 / TOLERANCE` times as wide
    as those of the images. The second and third are above 0 where active and inactive units are out of balance, in the
    mean and in the variance of their centres; a layer without active or without inactive units has none of both.

    Args:
        images: centre and radius of the normalised images, any shape.
        activations: centre and radius before each ReLU, at least one.

    >>> narrow, wide = (torch.zeros(4), torch.full((4,), 0.5)), (torch.zeros(4), torch.full((4,), 4.0))
    >>> stability(narrow, [wide]).item()
    0.75
    """
    width = images[1].mean()
    return torch.stack([_of_layer(width, *one) for one in activations]).mean()


def _of_layer(width: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    total, own, actives, active, active2, inactives, inactive, inactive2 = box_sums(centre, radius).unbind()
    tightness = _penalty(width / (own / centre.numel()).clamp(min=SMALLEST))
    if actives == 0 or inactives == 0:
        return tightness
    mean = total / centre.numel()
    spread, counterspread = (
        squares - 2 * mean * values + count * mean**2
        for count, values, squares in ((actives, active, active2), (inactives, inactive, inactive2))
    )
    return tightness + sum(
        _penalty(torch.minimum(ratio, 1 / ratio.clamp(min=SMALLEST)))
        for ratio in (active / -inactive, spread / counterspread.clamp(min=SMALLEST))
    )


def _penalty(ratio: Tensor) -> Tensor:
    return F.relu(TOLERANCE - ratio) / TOLERANCE
