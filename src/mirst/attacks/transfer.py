"""Transfer attacks: crafted on another model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import Attack


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Attacks `source_model` and returns the images for the model that it is called on.

    A model may mask its gradients while another one does not. If a transferred attack is stronger than the same
    attack on the model itself, the latter does not measure robustness (Athalye et al. 2018).

    >>> from mirst.attacks import PGD
    >>> source, model = (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(2))
    >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
    >>> attack = PGD(eps=8 / 255)
    >>> torch.equal(Transfer(source_model=source, attack=attack)(model, x, y), attack(source, x, y))
    True
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
