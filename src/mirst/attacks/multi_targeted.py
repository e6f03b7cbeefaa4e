"""A targeted attack towards each of the most likely wrong classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import Attack, attackable
from mirst.attacks.best import Best
from mirst.errors import MirstError


@dataclass(frozen=True, kw_only=True)
class MultiTargeted:
    """Runs a targeted `attack` towards each of the `targets` most likely wrong classes and keeps the largest margin.

    With two classes this equals the untargeted attack. Source: Gowal et al. 2019; the targets of
    AutoAttack's APGD-T and FAB-T (Croce and Hein 2020).

    Raises:
        MirstError: an attack that is not targeted, or fewer than one target, on construction.

    >>> from mirst.attacks import APGD
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
    >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 4])
    >>> attack = MultiTargeted(attack=APGD(eps=8 / 255, steps=10, targeted=True), targets=3)
    >>> round(255 * float((attack(model, x, y) - x).abs().max()))
    8
    """

    attack: Attack
    targets: int = 9

    def __post_init__(self) -> None:
        if not getattr(self.attack, "targeted", False):
            raise MirstError("MultiTargeted runs a targeted attack; build it with targeted=True")
        if self.targets < 1:
            raise MirstError(f"targets is {self.targets}; it must be at least 1")

    @property
    def eps(self) -> float:
        """Radius of the ball, in units of the [0, 1] pixel range."""
        return self.attack.eps

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        with attackable(model, x, y) as (net, x, y), torch.no_grad():
            best = Best(x, y)
            logits = net(x)
            best.update(x, logits)
            ranked = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
            for target in ranked[:, : min(self.targets, logits.shape[1] - 1)].unbind(1):
                attacked = self.attack(model, x, target, generator=generator)
                best.update(attacked, net(attacked))
        return best.images
