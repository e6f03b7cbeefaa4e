"""Adversarial weight perturbation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.training.extensions.base import Extension


@dataclass(kw_only=True)
class AWP(Extension):
    """Train with the gradient at `w + v`, `v = gamma * ||w|| * g / ||g||`, `g` the gradient at `w` (Wu et al. 2020).

    The norms are those of one parameter at a time; biases and the parameters of batch norms stay as they are. The
    loss is that of the defense, so every step computes it twice, and the defense crafts anew on the perturbed weights;
    the authors' code keeps the images that were crafted on `w`. The optimizer steps from `w`. Batch-norm statistics are
    those of the pass at `w + v`.

    Raises:
        MirstError: a negative gamma.

    >>> model, awp = nn.Linear(2, 1, bias=False), AWP(gamma=0.1)
    >>> _ = nn.init.constant_(model.weight, 1.0)
    >>> with awp.around_loss(model, lambda: model(torch.tensor([3.0, 4.0])).sum()):
    ...     perturbed = model.weight.detach().clone()  # 1 + 0.1 * sqrt(2) * (0.6, 0.8)
    >>> perturbed, model.weight.detach()
    (tensor([[1.0849, 1.1131]]), tensor([[1., 1.]]))
    """

    gamma: float = 0.005
    """Norm of the perturbation of a parameter, relative to the norm of the parameter."""

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise MirstError(f"gamma is {self.gamma}; it must not be negative")

    @contextmanager
    def around_loss(self, model: nn.Module, loss: Callable[[], Tensor]) -> Iterator[None]:
        weights = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim > 1]
        before = [weight.detach().clone() for weight in weights]
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
        try:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
                for weight, gradient in zip(weights, gradients, strict=True):
                    if gradient is not None and gradient.any():
                        weight.add_(self.gamma * weight.norm() / gradient.norm() * gradient)
            yield
        finally:
            with torch.no_grad():
                for weight, value in zip(weights, before, strict=True):
                    weight.copy_(value)
