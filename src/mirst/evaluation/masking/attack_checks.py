"""Checks that attack the model: more than the suite did, or with weaker means than the suite had."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks import APGD, CW, Attack
from mirst.attacks.descent import random_point
from mirst.attacks.losses import margin
from mirst.evaluation.judge import in_batches
from mirst.evaluation.masking.check import (
    Check,
    failing,
    misclassified_by,
    random_signs,
    require_batch,
    require_count,
    tolerance,
)
from mirst.nn.logits import logits_of, misclassified
from mirst.random_draws import uniform

NOISE_DRAWS = 20
COLLAPSED = "collapsed"
"""First word of the figures of a model that predicts one class for everything."""
NEAREST = 16
"""Number of correctly classified images that the longest attack runs on; 4 % of all images if that is more."""


def one_step(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Check:
    """Fails if one step of length `eps` misclassifies more images than 50 steps of `2.5 * eps / 50`.

    Both ascend the margin, which does not saturate in float32 as the cross-entropy of FGSM and PGD does. With two
    classes the gradients of both losses have the same direction. Source: Athalye et al. 2018.
    """
    require_batch(x, y, eps)
    one = int(misclassified_by(model, x, y, [CW(eps=eps, step_size=eps, steps=1)]).sum())
    many = int(misclassified_by(model, x, y, [CW(eps=eps, step_size=2.5 * eps / 50, steps=50)]).sum())
    figures = f"one step misclassifies {one} of {len(x)} images, 50 steps misclassify {many}"
    return failing("one-step", one - many > tolerance(len(x)), figures)


def unbounded(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Check:
    """Fails if an attack that may change every pixel by any amount leaves an image correctly classified.

    APGD on the margin starts at the image with eps 1/8, 1/4, 1/2 and 1 in turn, then three times at random with eps 1.
    A model with the same prediction for all images, for black, for white and for noise is called collapsed.
    Source: Athalye et al. 2018.
    """
    require_batch(x, y)
    clean = int(misclassified_by(model, x, y, []).sum())
    ladder = [APGD(eps=eps, loss="margin", steps=50, random_start=False) for eps in (1 / 8, 1 / 4, 1 / 2, 1.0)]
    restarts = [APGD(eps=1.0, loss="margin", steps=50)] * 3
    wrong = int(misclassified_by(model, x, y, [*ladder, *restarts], generator).sum())
    predictions = set(in_batches(model, torch.cat([x, _extremes(x, generator)])).argmax(1).tolist())
    if wrong == clean and len(predictions) == 1:
        return Check("unbounded", "fail", f"{COLLAPSED}: the model predicts class {predictions.pop()} for every image")
    figures = f"an attack without bounds misclassifies {wrong} of {len(x)} images"
    return failing("unbounded", len(x) - wrong > tolerance(len(x)), figures)


def more_steps(model: nn.Module, x: Tensor, y: Tensor, eps: float, *, generator: torch.Generator) -> Check:
    """Suspect if APGD on the margin gains from 400 steps and 5 restarts over 100 steps and one run.

    The longer attack runs on the correctly classified images whose margin the shorter one brought nearest to 0: 16
    images, or 4 % of all if that is more. Source: Carlini et al. 2019: an attack has converged when more steps change
    nothing.
    """
    require_batch(x, y, eps)
    attacked = APGD(eps=eps, loss="margin", steps=100)(model, x, y, generator=generator)
    logits = logits_of(model, attacked)
    correct = ~(misclassified_by(model, x, y, []) | misclassified(logits, y))
    by_margin = margin(logits, y).masked_fill(~correct, -torch.inf).argsort(descending=True)
    nearest = by_margin[: min(int(correct.sum()), max(NEAREST, len(x) // 25))]
    gain = _gained(model, x[nearest], y[nearest], eps, generator) if len(nearest) else 0
    figures = f"100 steps of APGD misclassify {int((~correct).sum())} of {len(x)} images; "
    figures += f"of the {len(nearest)} images nearest to the decision, 400 steps with 5 restarts misclassify {gain}"
    return Check("more steps", "suspect" if gain > tolerance(len(x)) else "pass", figures)


def noise(model: nn.Module, x: Tensor, y: Tensor, eps: float, attacked: int, *, generator: torch.Generator) -> Check:
    """Fails if random noise misclassifies more images than the attacks did.

    Noise misclassifies an image if one of 20 draws does: 10 are uniform in the ball, 10 are corners of it.

    Args:
        attacked: how many of the images `x` are misclassified, clean ones included, after the attacks at `eps`.
        generator: of the draws.

    Source: Athalye et al. 2018 (random sampling).
    """
    require_batch(x, y, eps)
    require_count(attacked, len(x))
    draws: list[Attack] = [_Noise(eps), _Corner(eps)] * (NOISE_DRAWS // 2)
    by_noise = int(misclassified_by(model, x, y, draws, generator).sum())
    figures = f"random noise misclassifies {by_noise} of {len(x)} images, the attacks misclassify {attacked}"
    return failing("noise", by_noise - attacked > tolerance(len(x)), figures)


@dataclass(frozen=True)
class _Noise:
    """A point drawn uniformly from the ball."""

    eps: float

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return random_point(x, self.eps, generator)


@dataclass(frozen=True)
class _Corner:
    """A corner of the ball, drawn at random."""

    eps: float

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return (x + self.eps * random_signs(x, generator)).clamp(0, 1)


def _gained(model: nn.Module, x: Tensor, y: Tensor, eps: float, generator: torch.Generator) -> int:
    """How many images 5 runs of 400 steps misclassify; all runs are one batch, which is faster for few images."""
    images, labels = x.repeat(5, 1, 1, 1), y.repeat(5)
    attacked = APGD(eps=eps, loss="margin", steps=400)(model, images, labels, generator=generator)
    return int(misclassified(logits_of(model, attacked), labels).view(5, -1).any(0).sum())


def _extremes(x: Tensor, generator: torch.Generator) -> Tensor:
    """Black, white, eight images of gray noise and eight of black-and-white noise."""
    gray = uniform((8, *x.shape[1:]), x, generator)
    hard = uniform((8, *x.shape[1:]), x, generator).round()
    return torch.cat([torch.zeros_like(x[:1]), torch.ones_like(x[:1]), gray, hard])
