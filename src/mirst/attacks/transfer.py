"""An attack crafted on another model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import Attack


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Attacks `source_model` and gives the result for the model that it is called on.

    Gradients that a model masks may be plain in another: where a transferred attack does better
    than one on the model itself, the latter is no measure (Athalye et al. 2018).
    """

    source_model: nn.Module
    """On the same device as the model to be attacked."""
    attack: Attack

    @property
    def eps(self) -> float:
        """Radius of the ball, in units of the [0, 1] pixel range."""
        return self.attack.eps

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return self.attack(self.source_model, x, y, generator=generator)
