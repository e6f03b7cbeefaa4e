"""The minimum-norm L-infinity attack of Carlini and Wagner."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import Minimum, attackable, require_fields
from mirst.attacks.best import nearer, reached, success
from mirst.errors import MirstError
from mirst.nn import reference_mode
from mirst.nn.logits import Logits, input_gradient

FLOOR = 1 / 256
"""No distance below it is looked for."""
SHRINK = 0.9
FIRST_COST, LAST_COST = 1e-5, 20.0
INSIDE = 0.999999
"""Keeps black and white pixels off the ends of tanh, where they could not move."""
DONE = 1e-4
"""Share of the cost at which a search has nothing left to gain."""


@dataclass(frozen=True, kw_only=True)
class CarliniWagner:
    """The nearest success in the L-infinity norm (Carlini and Wagner 2017, Section VI.C).

    `c * max(0, Z_y - max_{i != y} Z_i) + sum max(0, |x' - x| - tau)` is minimised by Adam in tanh
    space; tau shrinks below each success, c doubles after each failure. It is not the `CW` of
    papers on adversarial training, which is PGD on the margin. Distances below 1/256 are not
    looked for, and a distance is an upper bound of the true one.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.
    """

    steps: int = 1000
    """Steps of Adam for one tau and c."""
    learning_rate: float = 5e-3
    targeted: bool = False
    """`y` is the class to reach, not the one to leave."""

    def __post_init__(self) -> None:
        require_fields(eps=0.0, steps=self.steps)
        if not self.learning_rate > 0:
            raise MirstError(f"learning_rate is {self.learning_rate}; it must be positive")

    def minimum(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Minimum:
        """The nearest success of each image, and its distance; nothing is drawn at random."""
        with reference_mode(), attackable(model, x, y) as (net, x, y):
            with torch.no_grad():
                wrong = reached(net(x), y, targeted=self.targeted)
            images, distances = x.clone(), x.new_full((len(x),), torch.inf).masked_fill(wrong, 0.0)
            tau, cost = torch.ones_like(distances), torch.full_like(distances, FIRST_COST)
            left = torch.nonzero(~wrong).flatten()
            while len(left):
                images[left], distances[left] = self._search(
                    net, x[left], y[left], Minimum(images[left], distances[left]), tau[left], cost[left]
                )
                near = distances <= tau
                tau[left] = torch.where(near, SHRINK * distances, tau)[left]
                cost[left] = torch.where(near, cost, 2 * cost)[left]
                left = left[((tau >= FLOOR) & (cost <= LAST_COST))[left]]
        return Minimum(images, distances)

    def _search(self, net: Logits, x: Tensor, y: Tensor, found: Minimum, tau: Tensor, cost: Tensor) -> Minimum:
        """One run of Adam from the nearest success so far."""
        z = torch.atanh((2 * found.images - 1) * INSIDE).requires_grad_(True)
        adam = torch.optim.Adam([z], lr=self.learning_rate)
        for _ in range(self.steps):
            images = (torch.tanh(z) / INSIDE + 1) / 2
            logits = net(images)
            ahead = success(logits, y, targeted=self.targeted)
            excess = ((images - x).abs() - tau.view(-1, 1, 1, 1)).clamp(min=0).flatten(1).sum(1)
            loss = cost * (-ahead).clamp(min=0) + excess
            found = nearer(found, x, images.detach().clamp(0, 1), reached(logits.detach(), y, targeted=self.targeted))
            if (loss < DONE * cost).all():
                break
            z.grad = input_gradient(loss, z)
            adam.step()
        return found
