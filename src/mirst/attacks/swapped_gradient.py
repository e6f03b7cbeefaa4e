"""The value of one tensor with the gradient of another, as in every BPDA attack."""

from typing import Any

import torch
from torch import Tensor


def with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """`value`, differentiated as `surrogate`, a tensor of the same shape."""
    swapped: Tensor = _Swapped.apply(value.detach(), surrogate)  # type: ignore[no-untyped-call]
    return swapped


class _Swapped(torch.autograd.Function):
    """The first argument forward, the second one backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient
