"""How far floating-point results lie from exact ones: `docs/decisions/certificates-in-floating-point.md`."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.nn.logits import dtype_of

DOUBLE = 2.0**-53
"""Unit roundoff of float64, in which bounds are computed."""
UNDERFLOW = 1e-30
"""Above the absolute error of 1e7 products and sums of a float32 model that underflow, flushed to 0 or not."""
SPARE = 64
"""Roundings of float64 allowed for on top of those of the sum itself: conversions, differences, lines."""


def gamma(count: int, unit: float) -> float:
    """Relative error of `count` roundings in a row, at most (Higham 2002, lemma 3.1).

    >>> gamma(3, 2.0**-24) < 1.8e-7
    True
    """
    return count * unit / (1 - count * unit)


@dataclass(frozen=True)
class Rounding:
    """The slack that makes bounds sound for the deployed model and for their own computation in float64."""

    unit: float
    """Unit roundoff of the deployed model: 2^-24 for float32."""

    def share(self, terms: int) -> float:
        """Error of an affine operation as a share of the sum of the absolute values that it adds up."""
        return gamma(terms, self.unit) + gamma(4 * (terms + SPARE), DOUBLE)

    def of_function(self, ulps: int) -> float:
        """Error of an elementwise function as a share of 1 + its absolute value."""
        return ulps * (2 * self.unit + 2 * DOUBLE)


def rounding_of(model: nn.Module, images: Tensor) -> Rounding:
    """The slack for `model` as it is deployed. Logits of images in float32 are rounded to float32.

    Raises:
        MirstError: weights in half precision.
    """
    kind = dtype_of(model) or torch.float32
    if kind not in (torch.float32, torch.float64):
        raise MirstError(
            f"the model has weights in {kind}, for which mirst has no certificates; convert it with .float()"
        )
    return Rounding(torch.finfo(kind if images.dtype == torch.float64 else torch.float32).eps / 2)
