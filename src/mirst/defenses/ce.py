"""Plain training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.defenses.base import LossTerms, weighted_cross_entropy


@dataclass(frozen=True, kw_only=True)
class CE:
    """Cross-entropy on clean images: the undefended baseline."""

    class_weights: tuple[float, ...] | None = None
    """Weight of each class; `None` weighs all alike."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        loss = weighted_cross_entropy(model(x), y, self.class_weights)
        return LossTerms(loss, {"clean": loss.item()})
