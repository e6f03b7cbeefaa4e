"""Training on linear relaxations with interval bounds inside."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms
from mirst.defenses.certified import Bounded, CertifiedTraining, ball, require_share


@dataclass(frozen=True, kw_only=True)
class CROWNIBP(CertifiedTraining):
    """`kappa * CE(f(x), y) + (1 - kappa) * CE(worst-case logits, y)` by CROWN-IBP bounds (Zhang et al. 2020).

    The worst-case logits are `share * CROWN-IBP + (1 - share) * IBP`: the bounds of a linear relaxation of the network,
    whose activations are relaxed inside their interval bounds, and interval bounds. In the ramp, as eps grows, the
    share of CROWN-IBP goes from 1 to `beta`, and kappa falls from 1 to its field, both linearly. At `beta=0` the last
    epochs are those of `IBP`: the tight bounds only ease the start.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], or a model with a layer that has no
            bounds, on call.

    Source: Zhang et al. 2020 (arXiv 1906.06316), Section 3.2; initialisation and ramp as Shi et al. 2021 (arXiv
    2103.17268), batch norm as CTBench (Mao et al. 2025, arXiv 2406.04848).

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> total, terms = CROWNIBP(eps=2 / 255, beta=0.5)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['certified', 'clean']
    """

    kappa: float = 0.5
    """Weight of the clean loss at full eps."""
    beta: float = 0.0
    """Share of CROWN-IBP in the bounds at full eps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("kappa", self.kappa)
        require_share("beta", self.beta)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        x, y = checked_batch(x, y)
        share = 1 - (1 - self.beta) * self.eps_share
        bounded = Bounded(model, x, y, *ball(x, self.eps), relax=share > 0)
        clean = self._cross_entropy(bounded.logits, y)
        worst = bounded.worst()
        if share > 0:
            worst = share * bounded.worst(relax=True) + (1 - share) * worst
        certified = self._cross_entropy(worst, y)
        weight = (1 - self.kappa) * self.eps_share
        return self._loss(bounded, (1 - weight) * clean + weight * certified, clean=clean, certified=certified)
