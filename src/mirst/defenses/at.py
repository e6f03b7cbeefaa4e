"""Adversarial training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.descent import gradient_of, last
from mirst.attacks.losses import cross_entropy
from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms, weighted_cross_entropy
from mirst.defenses.crafting import Crafting
from mirst.nn.logits import Logits


@dataclass(frozen=True, kw_only=True)
class AT(Crafting):
    """`CE(f(x_T), y)` with `x_T` the last PGD iterate, and nothing else (Madry et al. 2018).

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = AT(eps=8 / 255, steps=5)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['adversarial']
    """

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        x, y = checked_batch(x, y)
        with self._crafting(model, x, y) as net:
            attacked = last(self._iterates(gradient_of(lambda images: cross_entropy(net(images), y)), x))
        loss = weighted_cross_entropy(Logits(model)(attacked), y, self.class_weights, self.label_smoothing)
        return LossTerms(loss, {"adversarial": loss.item()})
