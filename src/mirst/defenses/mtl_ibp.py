"""Training on adversarial images and interval bounds at once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms
from mirst.defenses.certified import AttackedTraining, Bounded, ball, require_share


@dataclass(frozen=True, kw_only=True)
class MTLIBP(AttackedTraining):
    """`(1 - alpha) * CE(f(x'), y) + alpha * CE(worst-case logits, y)` by interval bounds (De Palma et al. 2024).

    `x'` is the last iterate of PGD from a random start; the intervals are those of the ball around `x`. With `alpha=1`
    it is `IBP` with `kappa=0`, with `alpha=0` adversarial training with the batch statistics of clean images.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], or a model with a layer that has no
            bounds, on call.

    Source: De Palma et al. 2024 (arXiv 2305.13991), Section 4; initialisation and ramp as Shi et al. 2021 (arXiv
    2103.17268), batch norm as CTBench (Mao et al. 2025, arXiv 2406.04848).

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = MTLIBP(steps=3)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['adversarial', 'certified']
    """

    alpha: float = 0.5
    """Weight of the loss on interval bounds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("alpha", self.alpha)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        x, y = checked_batch(x, y)
        attacked = self._attacked(model, x, y, generator)
        bounded = Bounded(model, x, y, *ball(x, self.eps))
        adversarial = self._cross_entropy(bounded.logits_of(attacked), y)
        certified = self._cross_entropy(bounded.worst(), y)
        total = (1 - self.alpha) * adversarial + self.alpha * certified
        return self._loss(bounded, total, adversarial=adversarial, certified=certified)
