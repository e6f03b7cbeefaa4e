"""Plain training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms, weighted_cross_entropy
from mirst.nn.logits import Logits


@dataclass(frozen=True, kw_only=True)
class CE:
    """Cross-entropy on clean images: the undefended baseline.

    Raises:
        MirstError: images outside [0, 1], or labels that are no classes of the model, on call.
    """

    class_weights: tuple[float, ...] | None = None
    """Weight of each class; `None` weighs all alike."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        x, y = checked_batch(x, y)
        loss = weighted_cross_entropy(Logits(model)(x), y, self.class_weights)
        return LossTerms(loss, {"clean": loss.item()})
