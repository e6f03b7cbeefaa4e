"""What every defense is."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mirst.batches import require_labels


class LossTerms(NamedTuple):
    """What a defense returns."""

    total: Tensor
    """The scalar to minimise."""
    terms: dict[str, float]
    """Its parts by name, unweighted, to watch."""


class Defense(Protocol):
    """A frozen, keyword-only dataclass whose fields are its configuration.

    Called on a model, images and labels it returns a loss whose backward trains the model. It
    knows neither optimizer nor epoch, leaves the model's modes as it found them, and crafts
    without a trace in batch-norm buffers or `.grad`. Schedules swap fields in with
    `dataclasses.replace`.
    """

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """Weight of each class in every cross-entropy; `None` weighs all alike."""
        ...

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        """The loss on `x`, `(N, C, H, W)` in [0, 1], labelled `y`, `(N,)` integers."""
        ...


def weighted_cross_entropy(logits: Tensor, y: Tensor, class_weights: tuple[float, ...] | None) -> Tensor:
    """Mean cross-entropy, each image weighted by its class, the weights of a batch summing to one.

    Raises:
        MirstError: a label that is no class of the model.
    """
    require_labels(y, logits.shape[1])
    weight = None if class_weights is None else logits.new_tensor(class_weights)
    return nn.functional.cross_entropy(logits, y, weight=weight)
