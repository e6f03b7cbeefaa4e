"""Crafting inside a defense: the common floor of AT, TRADES, LLR, RST and MIRST."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, attackable, require_fields
from mirst.attacks.descent import iterates
from mirst.defenses.base import require_label_smoothing
from mirst.defenses.base_classes import BaseDefense
from mirst.errors import MirstError
from mirst.nn.accelerate.agreement import packed_if_equal
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits


@dataclass(frozen=True, kw_only=True)
class Crafting(BaseDefense):
    """The fields of every defense that moves images inside the L-infinity ball.

    Raises:
        MirstError: a field out of range, on construction.

    >>> Crafting(eps=0.2, steps=5).at_eps_share(0.5).eps
    0.1
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range."""
    steps: int = 10
    """Steps of the ascent, T in the paper."""
    step_size: float | None = None
    """Length of one step; `None` is `2 * eps / steps`, which reaches the edge with half the steps."""
    craft_mode: Literal["eval", "train"] = "eval"
    """Mode of the model while crafting: "eval", or "train" for the mode that the training loop has set."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in every cross-entropy; with `None` all classes have the same weight."""
    label_smoothing: float = 0.0
    """Share of the label that is spread evenly over all classes, in every cross-entropy that is trained on."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps, steps=self.steps, step_size=1.0 if self.step_size is None else self.step_size)
        if self.craft_mode not in ("eval", "train"):
            raise MirstError(f"craft_mode is {self.craft_mode}; choose eval or train")
        require_label_smoothing(self.label_smoothing)

    def _iterates(
        self, gradient: Callable[[Tensor], Tensor], x: Tensor, *, steps: int | None = None, start: Tensor | None = None
    ) -> Iterator[Tensor]:
        """As `mirst.attacks.descent.iterates`, in this ball; `steps` defaults to the field."""
        step_size = 2 * self.eps / self.steps if self.step_size is None else self.step_size
        steps = self.steps if steps is None else steps
        return iterates(gradient, x, eps=self.eps, step_size=step_size, steps=steps, start=start)

    @contextmanager
    def _crafting(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Logits]:
        """Inside, the model to craft on from `x`: it gives gradients with respect to its input only."""
        if self.craft_mode == "eval":
            with attackable(model, x, y) as (net, _, _):
                yield net
        else:
            with packed_if_equal(model, x), frozen(model, training=None):
                yield Logits(model)


def require_weight(name: str, value: float) -> None:
    """Raise `MirstError` unless `value` is a weight."""
    if not value >= 0:
        raise MirstError(f"{name} is {value}; it must not be negative")


def training_logits(model: nn.Module, batches: Sequence[Tensor], joint: bool) -> tuple[Tensor, ...]:
    """The logits of each batch, to train on; `joint` batches pass as one and so share batch-norm statistics."""
    net = Logits(model)
    if joint:
        return tuple(net(torch.cat(list(batches))).chunk(len(batches)))
    return tuple(net(batch) for batch in batches)
