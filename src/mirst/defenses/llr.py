"""Local linearity regularisation."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.descent import gradient_of, last, random_point
from mirst.attacks.losses import cross_entropy
from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms, weighted_cross_entropy
from mirst.defenses.ce import CE
from mirst.defenses.crafting import Crafting, require_weight, training_logits
from mirst.nn.logits import input_gradient


@dataclass(frozen=True, kw_only=True)
class LLR(Crafting):
    """`CE(f(x), y) + linearity_weight * g(d*) + gradient_weight * |d* . grad_x l(x)|` (Qin et al. 2019).

    `g(d) = |l(x + d) - l(x) - d . grad_x l(x)|` is how far the loss is from linear, and `d*`, found
    by signed steps from a random start, is where in the ball it is farthest. `d*` is a constant in
    the penalty, the gradient at `x` is trained.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = LLR(steps=3)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['clean', 'nonlinearity', 'slope']
    """

    linearity_weight: float = 3.0
    """Weight of the nonlinearity, lambda in the source."""
    gradient_weight: float = 4.0
    """Weight of the slope, mu in the source."""
    joint_batch: bool = True
    """Clean and moved images are passed through the model as one batch, so they share batch-norm statistics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weight("linearity_weight", self.linearity_weight)
        require_weight("gradient_weight", self.gradient_weight)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        if self.linearity_weight == self.gradient_weight == 0:
            return CE(class_weights=self.class_weights, label_smoothing=self.label_smoothing)(model, x, y)
        x, y = checked_batch(x, y)
        delta = self._search(model, x, y, generator)
        logits, gap, slope = _around(model, x, y, delta, self.joint_batch)
        clean = weighted_cross_entropy(logits, y, self.class_weights, self.label_smoothing)
        total = clean + self.linearity_weight * gap + self.gradient_weight * slope
        return LossTerms(total, {"clean": clean.item(), "nonlinearity": gap.item(), "slope": slope.item()})

    def _search(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        with self._crafting(model, x, y) as net:
            pixels = x.detach().requires_grad_(True)
            loss = cross_entropy(net(pixels), y)
            gradient = input_gradient(loss, pixels)
            loss = loss.detach()

            def nonlinearity(images: Tensor) -> Tensor:
                return (cross_entropy(net(images), y) - loss - _dot(images - x, gradient)).abs()

            start = random_point(x, self.eps, generator)
            return last(self._iterates(gradient_of(nonlinearity), x, start=start)) - x


def llr_penalty(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `|l(x + delta) - l(x) - delta . grad_x l(x)|` and mean `|delta . grad_x l(x)|`, scalars to train on.

    Args:
        x: `(N, C, H, W)` in [0, 1].
        delta: of the same shape; held constant.
    """
    _, gap, slope = _around(model, x, y, delta, joint=True)
    return gap, slope


def _around(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, joint: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The logits at `x`, and the two parts of `llr_penalty`."""
    pixels = x.detach().requires_grad_(True)
    logits, moved = training_logits(model, [pixels, x.detach() + delta], joint)
    loss = cross_entropy(logits, y)
    gradient = input_gradient(loss, pixels, create_graph=True)
    slope = _dot(delta, gradient)
    return logits, (cross_entropy(moved, y) - loss - slope).abs().mean(), slope.abs().mean()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Per image, `(N,)`."""
    return (a * b).flatten(1).sum(1)
