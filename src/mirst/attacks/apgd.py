"""Auto-PGD: signed gradient steps with momentum and an adaptive step size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, attackable, require_fields
from mirst.attacks.best import Best, per_image
from mirst.attacks.descent import random_point
from mirst.attacks.losses import cross_entropy, dlr, margin
from mirst.errors import MirstError
from mirst.nn.logits import Logits, input_gradient

MOMENTUM = 0.75
RHO = 0.75
"""Share of a period's steps that must raise the loss for the step size to stay."""


@dataclass(frozen=True, kw_only=True)
class APGD:
    """Auto-PGD (Croce and Hein 2020, Algorithm 1): PGD without a step size to tune.

    The step size starts at `2 * eps`. It is reviewed at checkpoints, which become more frequent. Where the loss of an
    image has stopped rising, its step size is halved and the search continues from its best point. The result is the
    visited image of largest margin, so a misclassified image is never lost.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], or "dlr" on fewer
            than three classes (four, if targeted), on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
    >>> attacked = APGD(eps=8 / 255, loss="margin", steps=20)(model, x, y, generator=torch.Generator().manual_seed(0))
    >>> round(255 * float((attacked - x).abs().max()))
    8
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range."""
    loss: Literal["ce", "margin", "dlr"] = "ce"
    """Cross-entropy, the margin, or the scale-free difference of logits ratio."""
    steps: int = 100
    targeted: bool = False
    """If true, `y` is the class that the attack tries to reach; otherwise the true class."""
    random_start: bool = True
    """Start uniformly inside the ball instead of at `x`."""
    restarts: int = 1
    """Number of runs; the best result for each image is kept. Every run after the first starts at a random point."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps, steps=self.steps, restarts=self.restarts)
        if self.loss not in ("ce", "margin", "dlr"):
            raise MirstError(f"loss is {self.loss}; choose ce, margin or dlr")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        with attackable(model, x, y) as (net, x, y):
            best = Best(x, y, targeted=self.targeted)
            for run in range(self.restarts):
                start = random_point(x, self.eps, generator) if self.random_start or run else x
                self._run(net, x, y, start, best)
        return best.images

    def _run(self, model: Logits, x: Tensor, y: Tensor, start: Tensor, best: Best) -> None:
        """One run. `best` is updated with every image that it visits."""
        low, high = (x - self.eps).clamp(min=0), (x + self.eps).clamp(max=1)
        step = x.new_full((len(x), 1, 1, 1), 2 * self.eps)
        loss, gradient = self._evaluate(model, start, y, best)
        top, top_loss, top_gradient = start, loss, gradient
        previous, current = start, start
        raised = torch.zeros_like(loss)
        halved = torch.ones_like(loss, dtype=torch.bool)  # the first step has no momentum, and no period before it
        top_before, at, ends = top_loss, 0, periods(self.steps)
        end = next(ends)
        for k in range(self.steps):
            ahead = (current + step * gradient.sign()).clamp(low, high)
            if k:
                ahead = current + MOMENTUM * (ahead - current) + (1 - MOMENTUM) * (current - previous)
            previous, current = current, ahead.clamp(low, high)
            loss_before = loss
            loss, gradient = self._evaluate(model, current, y, best)
            raised += loss > loss_before
            better = loss > top_loss
            top, top_gradient = per_image(better, current, top), per_image(better, gradient, top_gradient)
            top_loss = torch.where(better, loss, top_loss)
            if k + 1 < end:
                continue
            halve = (raised < RHO * (end - at)) | (~halved & (top_loss <= top_before))
            step = per_image(halve, step / 2, step)
            current, gradient = per_image(halve, top, current), per_image(halve, top_gradient, gradient)
            loss = torch.where(halve, top_loss, loss)
            raised, halved, top_before, at, end = torch.zeros_like(loss), halve, top_loss, end, next(ends)

    def _evaluate(self, model: Logits, images: Tensor, y: Tensor, best: Best) -> tuple[Tensor, Tensor]:
        """The loss to ascend, `(N,)`, and its gradient, with NaN replaced by 0; updates `best`."""
        images = images.detach().requires_grad_(True)
        logits = model(images)
        best.update(images.detach(), logits.detach())
        loss = self._loss(logits, y)
        return loss.detach(), input_gradient(loss, images).nan_to_num(0.0)

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.loss == "dlr":
            return -dlr(logits, y, targeted=True) if self.targeted else dlr(logits, y)
        value = cross_entropy(logits, y) if self.loss == "ce" else margin(logits, y)
        return -value if self.targeted else value


def periods(steps: int) -> Iterator[int]:
    """The steps after which the step size is reviewed: 0.22 of all, then shorter and shorter periods down to 0.06."""
    before, now, last = 0, 22, 0  # in hundredths: sums of floats overshoot, and `ceil` would add a step
    while True:
        end = -(-now * steps // 100)
        if end > last:
            yield end
        before, now, last = now, now + max(now - before - 3, 6), end
