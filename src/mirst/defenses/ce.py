"""Plain training."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms, require_label_smoothing, weighted_cross_entropy
from mirst.nn.logits import Logits


@dataclass(frozen=True, kw_only=True)
class CE:
    """Cross-entropy on clean images: the undefended baseline.

    Raises:
        MirstError: a label smoothing outside [0, 1), on construction; images outside [0, 1], or labels that are no
            classes of the model, on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = CE()(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['clean']
    """

    class_weights: tuple[float, ...] | None = None
    """Weight of each class; with `None` all classes have the same weight."""
    label_smoothing: float = 0.0
    """Share of the label that is spread evenly over all classes."""

    def __post_init__(self) -> None:
        require_label_smoothing(self.label_smoothing)

    def at_eps_share(self, share: float) -> "CE":
        """Itself: it has no eps."""
        return self

    def with_class_weights(self, weights: tuple[float, ...]) -> "CE":
        """As for `mirst.defenses.Defense`."""
        return self if self.class_weights is not None else replace(self, class_weights=weights)

    def with_label_smoothing(self, share: float) -> "CE":
        """As for `mirst.defenses.Defense`."""
        return self if self.label_smoothing else replace(self, label_smoothing=share)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        x, y = checked_batch(x, y)
        loss = weighted_cross_entropy(Logits(model)(x), y, self.class_weights, self.label_smoothing)
        return LossTerms(loss, {"clean": loss.item()})
