"""Training on a clean image and some iterates of one PGD run: the common floor of RST and MIRST."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, frozen, require_fields, require_images
from mirst.attacks.descent import iterates
from mirst.attacks.losses import cross_entropy
from mirst.defenses.base import LossTerms, weighted_cross_entropy
from mirst.errors import MirstError


@dataclass(frozen=True, kw_only=True)
class InstanceTraining:
    """The fields and the loss that RST and MIRST share.

    `L = CE(f(x), y) + alpha * sum_j weights_j * CE(f(x_j), y)` with `x_j` the PGD iterates that the
    subclass names (MIRST-DM, Eq. 1 and 2), crafted from the clean image without a random start
    (Eq. 3).

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range."""
    steps: int = 10
    """PGD steps, T in the paper."""
    step_size: float | None = None
    """Length of one step; `None` is `2 * eps / steps`, which reaches the edge with half the steps."""
    alpha: float = 1.0
    """Weight of the adversarial part."""
    craft_mode: Literal["eval", "train"] = "eval"
    """Mode of the model while crafting: eval, or as the training loop has it ("train")."""
    joint_batch: bool = True
    """Clean and adversarial images pass the model as one batch and so share batch-norm statistics."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class; `None` weighs all alike."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps, steps=self.steps, step_size=1.0 if self.step_size is None else self.step_size)
        if not self.alpha >= 0:
            raise MirstError(f"alpha is {self.alpha}; it must not be negative")
        if self.craft_mode not in ("eval", "train"):
            raise MirstError(f"craft_mode is {self.craft_mode}; choose eval or train")

    def _instances(self) -> dict[int, float]:
        """Which iterates are trained on, 1 to `steps`, each with its weight."""
        raise NotImplementedError

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        require_images(x, y)
        instances = self._instances() if self.alpha > 0 else {}
        batches = [x, *self._craft(model, x, y, list(instances))]
        if self.joint_batch:
            logits = model(torch.cat(batches)).chunk(len(batches))
        else:
            logits = tuple(model(batch) for batch in batches)
        clean, *attacked = (weighted_cross_entropy(z, y, self.class_weights) for z in logits)
        if not attacked:
            return LossTerms(clean, {"clean": clean.item()})
        adversarial = torch.stack(
            [weight * loss for weight, loss in zip(instances.values(), attacked, strict=True)]
        ).sum()
        terms = {"clean": clean.item(), "adversarial": adversarial.item()}
        return LossTerms(clean + self.alpha * adversarial, terms)

    def _craft(self, model: nn.Module, x: Tensor, y: Tensor, wanted: list[int]) -> list[Tensor]:
        """The iterates `wanted`, in that order."""
        if not wanted:
            return []
        step_size = 2 * self.eps / self.steps if self.step_size is None else self.step_size
        with frozen(model, training=False if self.craft_mode == "eval" else None):
            run = iterates(model, x, y, cross_entropy, eps=self.eps, step_size=step_size, steps=max(wanted))
            crafted = dict(enumerate(run, start=1))
        return [crafted[number] for number in wanted]
