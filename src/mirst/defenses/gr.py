"""Gradient regularisation."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.losses import cross_entropy
from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms, require_label_smoothing, weighted_cross_entropy
from mirst.defenses.base_classes import BaseDefense
from mirst.defenses.ce import CE
from mirst.defenses.crafting import require_weight
from mirst.nn.logits import Logits, input_gradient


@dataclass(frozen=True, kw_only=True)
class GR(BaseDefense):
    """`CE(f(x), y) + weight * mean_i ||grad_x l_i||^2`, `l_i` the cross-entropy of image i (Ross and Doshi-Velez 2018).

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = GR(weight=2.0)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['clean', 'gradient']
    """

    weight: float = 1.0
    """Weight of the squared length of the gradient with respect to the [0, 1] pixels."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in the cross-entropy that is trained on; with `None` all classes have the same weight."""
    label_smoothing: float = 0.0
    """Share of the label that is spread evenly over all classes, in the cross-entropy that is trained on."""

    def __post_init__(self) -> None:
        require_weight("weight", self.weight)
        require_label_smoothing(self.label_smoothing)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        if self.weight == 0:
            return CE(class_weights=self.class_weights, label_smoothing=self.label_smoothing)(model, x, y)
        x, y = checked_batch(x, y)
        pixels = x.detach().requires_grad_(True)
        logits = Logits(model)(pixels)
        clean = weighted_cross_entropy(logits, y, self.class_weights, self.label_smoothing)
        # of the sum: the gradient of a mean would shrink with the square of the batch size
        gradient = input_gradient(cross_entropy(logits, y), pixels, create_graph=True)
        penalty = gradient.flatten(1).square().sum(1).mean()
        return LossTerms(clean + self.weight * penalty, {"clean": clean.item(), "gradient": penalty.item()})
