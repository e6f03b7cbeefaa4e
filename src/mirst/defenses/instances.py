"""Training on a clean image and some iterates of one PGD run: the common floor of RST and MIRST."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import require_images
from mirst.attacks.descent import iterates, random_point
from mirst.attacks.losses import cross_entropy
from mirst.defenses.base import LossTerms, weighted_cross_entropy
from mirst.defenses.crafting import Crafting, logits_of, require_weight


@dataclass(frozen=True, kw_only=True)
class InstanceTraining(Crafting):
    """The fields and the loss that RST and MIRST share.

    `L = CE(f(x), y) + alpha * sum_j weights_j * CE(f(x_j), y)` with `x_j` the PGD iterates that the
    subclass names (MIRST-DM, Eq. 1 and 2), crafted from the clean image (Eq. 3).

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.
    """

    alpha: float = 1.0
    """Weight of the adversarial part."""
    joint_batch: bool = True
    """Clean and adversarial images pass the model as one batch and so share batch-norm statistics."""
    random_start: bool = False
    """Craft from a random point of the ball instead."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weight("alpha", self.alpha)

    def _instances(self) -> dict[int, float]:
        """Which iterates are trained on, 1 to `steps`, each with its weight."""
        raise NotImplementedError

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        require_images(x, y)
        instances = self._instances() if self.alpha > 0 else {}
        batches = [x, *self._craft(model, x, y, list(instances), generator)]
        logits = logits_of(model, batches, self.joint_batch)
        clean, *attacked = (weighted_cross_entropy(z, y, self.class_weights) for z in logits)
        if not attacked:
            return LossTerms(clean, {"clean": clean.item()})
        adversarial = torch.stack(
            [weight * loss for weight, loss in zip(instances.values(), attacked, strict=True)]
        ).sum()
        terms = {"clean": clean.item(), "adversarial": adversarial.item()}
        return LossTerms(clean + self.alpha * adversarial, terms)

    def _craft(
        self, model: nn.Module, x: Tensor, y: Tensor, wanted: list[int], generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """The iterates `wanted`, in that order."""
        if not wanted:
            return []

        start = random_point(x, self.eps, generator) if self.random_start else None
        with self._crafting(model) as net:

            def objective(images: Tensor) -> Tensor:
                return cross_entropy(net(images), y)

            run = iterates(objective, x, eps=self.eps, step_size=self._step_size, steps=max(wanted), start=start)
            crafted = dict(enumerate(run, start=1))
        return [crafted[number] for number in wanted]
