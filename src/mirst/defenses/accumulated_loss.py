"""A loss whose gradients are taken pass by pass, so that only one graph is alive at a time."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class AccumulatedLoss:
    """A sum of losses on one model, added one by one.

    `total` is the sum; its backward hands out the gradients that were taken on the way, and until
    then `.grad` is untouched.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> loss = AccumulatedLoss(model)
    >>> for x in (1.0, 2.0):
    ...     _ = loss.add(model(torch.tensor([x])).sum(), 0.5)
    >>> loss.total().backward()
    >>> model.weight.grad
    tensor([[1.5000]])
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._gradients: list[Tensor | None] = [None] * len(self._parameters)
        self._value = torch.zeros(())

    def add(self, loss: Tensor, weight: float, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Add `weight * loss`, a scalar whose graph is used up.

        Returns:
            The gradients of `loss` itself with respect to `inputs`, from the same backward pass; 0 without a path.
        """
        found = torch.autograd.grad(loss, [*inputs, *self._parameters], allow_unused=True)
        for place, gradient in enumerate(found[len(inputs) :]):
            before = self._gradients[place]
            if gradient is not None:
                self._gradients[place] = gradient * weight if before is None else before.add_(gradient, alpha=weight)
        self._value = self._value + weight * loss.detach()
        own = zip(found, inputs, strict=False)
        return tuple(torch.zeros_like(one) if gradient is None else gradient for gradient, one in own)

    def total(self) -> Tensor:
        """The sum so far, differentiable once."""
        total: Tensor = _Held.apply(self._value, self._gradients, *self._parameters)  # type: ignore[no-untyped-call]
        return total


class _Held(torch.autograd.Function):
    """The value forward, the held gradients backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if g is None else outer * g for g in ctx.gradients)
