"""The minimum-norm L-infinity attack of Carlini and Wagner."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import Minimum, attackable, require_fields
from mirst.attacks.best import clean_minimum, nearer, reached, success
from mirst.errors import MirstError
from mirst.nn import reference_mode
from mirst.nn.logits import Logits, input_gradient

FLOOR = 1 / 256
"""Smaller distances are not searched for."""
SHRINK = 0.9
FIRST_COST, LAST_COST = 1e-5, 20.0
INSIDE = 0.999999
"""Scales pixels before `atanh`: black and white ones would be at infinity, where their gradient is 0."""
DONE = 1e-4
"""The search for one tau and c ends when the loss is below this share of c."""


@dataclass(frozen=True, kw_only=True)
class CarliniWagner:
    """The nearest misclassified image in the L-infinity norm (Carlini and Wagner 2017, Section VI.C).

    Adam minimises `c * max(0, Z_y - max_{i != y} Z_i) + sum max(0, |x' - x| - tau)` in tanh space. After each success
    tau shrinks below its distance; after each failure c doubles. Papers on adversarial training call another attack
    CW: PGD on the margin, here `CW`. Distances below 1/256 are not searched for. A distance is an upper bound of the
    true one.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = model[1].weight.data.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
    >>> _ = model[1].bias.data.copy_(torch.tensor([0.8, -0.8]))  # the class changes at a gray level of 0.2
    >>> attack = CarliniWagner(steps=200)
    >>> images, distances = attack.minimum(model, torch.full((1, 1, 2, 2), 0.3), torch.tensor([1]))
    >>> 0.1 <= float(distances) < 0.12
    True
    """

    steps: int = 1000
    """Steps of Adam for one tau and c."""
    learning_rate: float = 5e-3
    targeted: bool = False
    """If true, `y` is the class that the attack tries to reach; otherwise the true class."""

    def __post_init__(self) -> None:
        require_fields(eps=0.0, steps=self.steps)
        if not self.learning_rate > 0:
            raise MirstError(f"learning_rate is {self.learning_rate}; it must be positive")

    def minimum(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Minimum:
        """The nearest misclassified image for each clean image, and its distance. Nothing is random."""
        with reference_mode(), attackable(model, x, y) as (net, x, y):
            images, distances = clean_minimum(net, x, y, targeted=self.targeted)
            tau, cost = torch.ones_like(distances), torch.full_like(distances, FIRST_COST)
            left = torch.nonzero(distances > 0).flatten()
            while len(left):
                images[left], distances[left] = self._search(
                    net, x[left], y[left], Minimum(images[left], distances[left]), tau[left], cost[left]
                )
                near = distances <= tau
                tau[left] = torch.where(near, SHRINK * distances, tau)[left]
                cost[left] = torch.where(near, cost, 2 * cost)[left]
                left = left[((tau >= FLOOR) & (cost <= LAST_COST))[left]]
        return Minimum(images, distances)

    def _search(self, net: Logits, x: Tensor, y: Tensor, nearest: Minimum, tau: Tensor, cost: Tensor) -> Minimum:
        """One run of Adam from the nearest misclassified image so far."""
        z = torch.atanh((2 * nearest.images - 1) * INSIDE).requires_grad_(True)
        adam = torch.optim.Adam([z], lr=self.learning_rate)
        for _ in range(self.steps):
            images = (torch.tanh(z) / INSIDE + 1) / 2
            logits = net(images)
            ahead = success(logits, y, targeted=self.targeted)
            excess = ((images - x).abs() - tau.view(-1, 1, 1, 1)).clamp(min=0).flatten(1).sum(1)
            loss = cost * (-ahead).clamp(min=0) + excess
            wrong = reached(logits.detach(), y, targeted=self.targeted)
            nearest = nearer(nearest, x, images.detach().clamp(0, 1), wrong)
            if (loss < DONE * cost).all():
                break
            z.grad = input_gradient(loss, z)
            adam.step()
        return nearest
