"""Training on interval bounds."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms
from mirst.defenses.certified import Bounded, CertifiedTraining, ball, require_share


@dataclass(frozen=True, kw_only=True)
class IBP(CertifiedTraining):
    """`kappa * CE(f(x), y) + (1 - kappa) * CE(worst-case logits, y)` by interval bounds (Gowal et al. 2018).

    The intervals are those of the ball around `x`. In the ramp kappa falls from 1 to the field, linearly with eps.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], or a model with a layer that has no
            bounds, on call.

    Source: Gowal et al. 2018 (arXiv 1810.12715), Section 3; initialisation and ramp as Shi et al. 2021 (arXiv
    2103.17268), batch norm as CTBench (Mao et al. 2025, arXiv 2406.04848).

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = IBP(eps=2 / 255)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['certified', 'clean']
    """

    kappa: float = 0.5
    """Weight of the clean loss at full eps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("kappa", self.kappa)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        x, y = checked_batch(x, y)
        bounded = Bounded(model, x, y, *ball(x, self.eps))
        clean, certified = self._cross_entropy(bounded.logits, y), self._cross_entropy(bounded.worst(), y)
        weight = (1 - self.kappa) * self.eps_share
        return self._loss(bounded, (1 - weight) * clean + weight * certified, clean=clean, certified=certified)
