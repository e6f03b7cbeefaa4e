"""Fast gradient sign method."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, require_fields
from mirst.attacks.descent import SignDescent


@dataclass(frozen=True, kw_only=True)
class FGSM:
    """One step of length `eps` along the sign of the gradient of the cross-entropy.

    The default is MIRST-DM's evaluation setting. Source: Goodfellow et al. 2015.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
    >>> attacked = FGSM(eps=8 / 255)(model, x, y)
    >>> (255 * (attacked - x).abs()).round().unique()  # every pixel moved by eps
    tensor([8.])
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range."""
    targeted: bool = False
    """If true, `y` is the class that the attack tries to reach; otherwise the true class."""
    random_start: bool = False
    """Start uniformly inside the ball instead of at `x`."""
    restarts: int = 1
    """Number of runs; the best result for each image is kept. Every run after the first starts at a random point."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps, restarts=self.restarts)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        one_step = SignDescent(
            eps=self.eps,
            step_size=self.eps or 1.0,  # the projection undoes any step in a ball of radius 0
            steps=1,
            targeted=self.targeted,
            random_start=self.random_start,
            restarts=self.restarts,
        )
        return one_step(model, x, y, generator=generator)
