"""Training on a clean image and some iterates of one PGD run: the common floor of RST and MIRST."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from mirst.attacks.descent import gradient_of, last, random_point
from mirst.attacks.losses import cross_entropy
from mirst.batches import checked_batch
from mirst.defenses.accumulated_loss import AccumulatedLoss
from mirst.defenses.base import LossTerms, weighted_cross_entropy
from mirst.defenses.crafting import Crafting, require_weight, training_logits
from mirst.nn import is_optimized
from mirst.nn.accelerate.agreement import packed_if_equal
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits, input_gradient

CLEAN = 0
"""The number of the clean image among the iterates."""

Losses = dict[int, Tensor]
"""The loss on each batch that is trained on, by its number."""


@dataclass(frozen=True, kw_only=True)
class InstanceTraining(Crafting):
    """The fields and the loss that RST and MIRST share.

    `L = CE(f(x), y) + alpha * sum_j weights_j * CE(f(x_j), y)` with `x_j` the PGD iterates that the
    subclass names (MIRST-DM, Eq. 1 and 2), crafted from the clean image (Eq. 3).

    With `joint_batch=False` only one graph is alive at a time; with `craft_mode="train"` and without label smoothing,
    the passes that craft are also those that train, and no batch is passed through the model twice.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> from mirst.defenses import RST
    >>> isinstance(RST(), InstanceTraining)
    True
    """

    alpha: float = 1.0
    """Weight of the adversarial part."""
    joint_batch: bool = True
    """Clean and adversarial images are passed through the model as one batch, so they share batch-norm statistics."""
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
        x, y = checked_batch(x, y)
        instances = self._instances() if self.alpha > 0 else {}
        if not self.joint_batch:  # batch norms then meet the batches in the order of the run
            instances = dict(sorted(instances.items()))
        one_by_one = bool(instances) and not self.joint_batch and is_optimized() and not _has_hooks(model)
        compute = self._one_by_one if one_by_one else self._together
        total, losses = compute(model, x, y, instances, generator)
        terms = {"clean": losses[CLEAN].item()}
        if instances:
            terms["adversarial"] = sum(weight * losses[number].item() for number, weight in instances.items())
        return LossTerms(total, terms)

    def _together(
        self, model: nn.Module, x: Tensor, y: Tensor, instances: Mapping[int, float], generator: torch.Generator | None
    ) -> tuple[Tensor, Losses]:
        """The loss as one graph, over all batches."""
        batches = [x, *self._craft(model, x, y, list(instances), generator)]
        logits = training_logits(model, batches, self.joint_batch)
        clean, *attacked = (self._trained(z, y) for z in logits)
        losses = {CLEAN: clean} | dict(zip(instances, attacked, strict=True))
        if not instances:
            return clean, losses
        adversarial = torch.stack([weight * losses[number] for number, weight in instances.items()]).sum()
        return clean + self.alpha * adversarial, losses

    def _one_by_one(
        self, model: nn.Module, x: Tensor, y: Tensor, instances: Mapping[int, float], generator: torch.Generator | None
    ) -> tuple[Tensor, Losses]:
        """The loss with its gradients, taken batch by batch."""
        held, losses, net = AccumulatedLoss(model), Losses(), Logits(model)

        def train_on(number: int, images: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
            loss = self._trained(net(images), y)
            losses[number] = loss.detach()
            return held.add(loss, 1.0 if number == CLEAN else self.alpha * instances[number], *inputs)

        with torch.enable_grad():
            if self.craft_mode == "train" and self.label_smoothing == 0:
                with packed_if_equal(model, x):
                    self._craft_and_train(train_on, model, x, y, set(instances), generator)
            else:
                crafted = self._craft(model, x, y, list(instances), generator)
                with packed_if_equal(model, x):
                    for number, images in zip([CLEAN, *instances], [x, *crafted], strict=True):
                        train_on(number, images)
        return held.total(), losses

    def _craft_and_train(
        self,
        train_on: Callable[..., tuple[Tensor, ...]],
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        wanted: set[int],
        generator: torch.Generator | None,
    ) -> None:
        """Crafting from an iterate that is trained on takes its gradient from the pass that trains."""
        start = self._start(x, generator)
        if start is None:
            wanted = wanted | {CLEAN}
        else:
            train_on(CLEAN, x)
        numbers = count()

        def gradient(images: Tensor) -> Tensor:
            number = next(numbers)
            if number in wanted:
                return train_on(number, images, images)[0]
            with frozen(model, training=None):
                return input_gradient(self._loss(Logits(model), images, y), images)

        end = max(wanted)
        train_on(end, last(self._iterates(gradient, x, steps=end, start=start)))

    def _craft(
        self, model: nn.Module, x: Tensor, y: Tensor, wanted: list[int], generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """The iterates `wanted`, in that order."""
        if not wanted:
            return []
        start = self._start(x, generator)
        with self._crafting(model, x, y) as net:
            gradient = gradient_of(lambda images: self._loss(net, images, y))
            run = self._iterates(gradient, x, steps=max(wanted), start=start)
            crafted = dict(enumerate(run, start=1))
        return [crafted[number] for number in wanted]

    def _start(self, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
        return random_point(x, self.eps, generator) if self.random_start else None

    def _trained(self, logits: Tensor, y: Tensor) -> Tensor:
        return weighted_cross_entropy(logits, y, self.class_weights, self.label_smoothing)

    def _loss(self, net: Logits, images: Tensor, y: Tensor) -> Tensor:
        """What crafting ascends. In train mode batch norms tie the images of a batch together, and the class
        weights change the direction: there it is the loss that is trained on."""
        if self.craft_mode == "train":
            return weighted_cross_entropy(net(images), y, self.class_weights)
        return cross_entropy(net(images), y)


def _has_hooks(model: nn.Module) -> bool:
    """Whether a hook waits for a parameter's gradient, of which one by one there are several."""
    return any(parameter._backward_hooks for parameter in model.parameters())
