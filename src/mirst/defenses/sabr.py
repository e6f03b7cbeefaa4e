"""Training on the interval bounds of a small box around an adversarial image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms
from mirst.defenses.certified import AttackedTraining, Bounded, ball, require_share


@dataclass(frozen=True, kw_only=True)
class SABR(AttackedTraining):
    """`CE(worst-case logits, y)` by the interval bounds of a small box around an attacked image (Mueller et al. 2023).

    PGD from a random start attacks `x` in the ball of radius eps; the last iterate is projected onto the ball of radius
    `(1 - small_box) * eps`, and the box of radius `small_box * eps` around it is propagated. The bounds hold for this
    box alone, so a small loss certifies nothing: smaller boxes favour clean accuracy. With `small_box=1` it is `IBP`
    with `kappa=0`.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], or a model with a layer that has no
            bounds, on call.

    Source: Mueller et al. 2023 (arXiv 2210.04871), Section 3; initialisation and ramp as Shi et al. 2021 (arXiv
    2103.17268), batch norm as CTBench (Mao et al. 2025, arXiv 2406.04848).

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = SABR(steps=3)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['certified', 'clean']
    """

    small_box: float = 0.4
    """Radius of the small box as a share of eps, lambda in the source."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("small_box", self.small_box)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        x, y = checked_batch(x, y)
        radius = self.small_box * self.eps
        away = self.eps - radius
        centre = self._attacked(model, x, y, generator).clamp(x - away, x + away)
        bounded = Bounded(model, x, y, *ball(centre, radius))
        clean, certified = self._cross_entropy(bounded.logits, y), self._cross_entropy(bounded.worst(), y)
        return self._loss(bounded, certified, clean=clean, certified=certified)
