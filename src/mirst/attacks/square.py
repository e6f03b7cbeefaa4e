"""Square attack: random search over square patches, without gradients."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, attackable, require_fields
from mirst.attacks.best import Best
from mirst.errors import MirstError
from mirst.nn.logits import Logits
from mirst.random_draws import uniform

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the area of the squares is halved."""


@dataclass(frozen=True, kw_only=True)
class Square:
    """Square attack in the L-infinity norm (Andriushchenko et al. 2020, Algorithms 1 and 2).

    It starts from vertical stripes at the edge of the ball, changes one random square at a time, and keeps the changes
    that raise the margin. It stops at the first misclassified image.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    >>> x, y = torch.full((3, 1, 4, 4), 0.5), torch.tensor([0, 1, 0])
    >>> attacked = Square(eps=8 / 255, queries=50)(model, x, y, generator=torch.Generator().manual_seed(0))
    >>> bool(((attacked - x).abs() <= 8 / 255 + 1e-6).all())
    True
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range."""
    queries: int = 5000
    """Calls of the model per image and run."""
    patch: float = 0.8
    """Area of the first squares, as a share of the image."""
    targeted: bool = False
    """If true, `y` is the class that the attack tries to reach; otherwise the true class."""
    restarts: int = 1
    """Number of runs; the best result for each image is kept."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps, restarts=self.restarts)
        if self.queries < 1:
            raise MirstError(f"queries is {self.queries}; it must be at least 1")
        if not 0 < self.patch <= 1:
            raise MirstError(f"patch is {self.patch}; it must be a share of the image, above 0 and at most 1")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        with attackable(model, x, y) as (net, x, y), torch.no_grad():
            best = Best(x, y, targeted=self.targeted)
            best.update(x, net(x))
            for _ in range(self.restarts):
                self._run(net, x, y, best, generator)
        return best.images

    def _run(self, model: Logits, x: Tensor, y: Tensor, best: Best, generator: torch.Generator | None) -> None:
        signs = uniform((len(x), x.shape[1], 1, x.shape[3]), x, generator).round() * 2 - 1
        run = Best(x, y, targeted=self.targeted)
        ahead, left = (x + self.eps * signs).clamp(0, 1), torch.arange(len(x), device=x.device)
        for query in range(1, self.queries + 1):
            undecided = best.margin[left] <= 0
            left, ahead = left[undecided], ahead[undecided]
            if not len(left):
                return
            logits = model(ahead)
            run.update(ahead, logits, left)
            best.update(ahead, logits, left)
            ahead = self._recoloured(x[left], run.images[left], self._side(query, x), generator)

    def _side(self, query: int, x: Tensor) -> int:
        """Side of the squares at a query, in pixels."""
        halvings = sum(query * 10_000 > after * self.queries for after in HALVINGS)
        return max(1, round(math.sqrt(self.patch / 2**halvings * x.shape[2] * x.shape[3])))

    def _recoloured(self, x: Tensor, current: Tensor, side: int, generator: torch.Generator | None) -> Tensor:
        """`current` with one square per image at the edge of the ball, the sign drawn per channel."""
        inside = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
        for axis in (2, 3):
            length = x.shape[axis]
            begin = (uniform((len(x), 1), x, generator) * max(1, length - side + 1)).floor()
            at = torch.arange(length, device=x.device)
            chosen = (at >= begin) & (at < begin + side)
            inside = inside & (chosen[:, None, :, None] if axis == 2 else chosen[:, None, None, :])
        signs = uniform((len(x), x.shape[1], 1, 1), x, generator).round() * 2 - 1
        return torch.where(inside, (x + self.eps * signs).clamp(0, 1), current)
