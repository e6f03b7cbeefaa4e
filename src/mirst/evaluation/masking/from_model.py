"""What `mirst.evaluation.masking.from_results` asks of a model itself: attacks, noise and gradients of its own."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mirst.attacks import APGD, CW, Attack
from mirst.attacks.descent import random_point
from mirst.attacks.losses import margin
from mirst.batches import checked_batch
from mirst.errors import MirstError
from mirst.evaluation.judge import differ, in_batches, tolerance_of
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits, input_gradient, logits_of, misclassified
from mirst.random_draws import uniform

Verdict = Literal["pass", "suspect", "fail"]

NOISE_DRAWS = 20
SINGLES = 16
"""Number of images that are also asked one by one."""
NEAREST = 16
"""Number of intact images that the longest attack is spent on; 4 % of all where that is more."""
JITTER = 1e-3
"""How far off each image finite differences are taken: at the image itself the max-pool windows of a
uniform background tie, and no derivative exists."""
DIFFERENCE = 1e-7
"""Step of the finite differences, in units of the pixel range; a longer one meets kinks of ReLU and max-pool."""
AGREEMENT = 0.05
"""Relative difference between two derivatives that agree."""
ROUNDING = 1e-7
"""What float64 leaves uncertain in a finite difference, as a share of the largest logit."""


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    verdict: Verdict
    figures: str
    """One sentence with the figures."""


def tolerance(images: int) -> float:
    """Number of images by which two counts may differ unnoticed: 1, or 1 % where that is more."""
    return max(1.0, images / 100)


def one_step(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Check:
    """Fails if one step of length `eps` breaks more images than 50 steps of `2.5 * eps / 50`.

    Both ascend the margin, which does not saturate in float32 as the cross-entropy of FGSM and PGD does; with two
    classes the directions are theirs. Source: Athalye et al. 2018.
    """
    require_batch(x, y, eps)
    one = int(_broken(model, x, y, [CW(eps=eps, step_size=eps, steps=1)]).sum())
    many = int(_broken(model, x, y, [CW(eps=eps, step_size=2.5 * eps / 50, steps=50)]).sum())
    verdict: Verdict = "fail" if one - many > tolerance(len(x)) else "pass"
    return Check("one-step", verdict, f"one step breaks {one} of {len(x)} images, 50 steps break {many}")


def unbounded(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Check:
    """Fails if an attack that may change every pixel at will leaves an image intact.

    APGD on the margin starts at the image with eps 1/8, 1/4, 1/2 and 1 in turn, then three times at random with eps 1.
    A model that gives one answer to all images, to black, to white and to noise is called collapsed.
    Source: Athalye et al. 2018.
    """
    require_batch(x, y)
    clean = int(_broken(model, x, y, []).sum())
    ladder = [APGD(eps=eps, loss="margin", steps=50, random_start=False) for eps in (1 / 8, 1 / 4, 1 / 2, 1.0)]
    restarts = [APGD(eps=1.0, loss="margin", steps=50)] * 3
    broken = int(_broken(model, x, y, [*ladder, *restarts], generator).sum())
    answers = set(in_batches(model, torch.cat([x, _extremes(x, generator)])).argmax(1).tolist())
    if broken == clean and len(answers) == 1:
        return Check("unbounded", "fail", f"collapsed: answers class {answers.pop()} whatever it sees")
    verdict: Verdict = "fail" if len(x) - broken > tolerance(len(x)) else "pass"
    return Check("unbounded", verdict, f"an attack without bounds breaks {broken} of {len(x)} images")


def more_steps(model: nn.Module, x: Tensor, y: Tensor, eps: float, *, generator: torch.Generator) -> Check:
    """Suspect if APGD on the margin gains from 400 steps and 5 restarts over 100 steps and one run.

    The longer attack is run on the intact images whose margin the shorter one brought nearest to 0: 16 of them, or 4 %
    of all where that is more. Source: Carlini et al. 2019: an attack has converged when more of it changes
    nothing.
    """
    require_batch(x, y, eps)
    attacked = APGD(eps=eps, loss="margin", steps=100)(model, x, y, generator=generator)
    logits = logits_of(model, attacked)
    intact = ~(_broken(model, x, y, []) | misclassified(logits, y))
    by_margin = margin(logits, y).masked_fill(~intact, -torch.inf).argsort(descending=True)
    nearest = by_margin[: min(int(intact.sum()), max(NEAREST, len(x) // 25))]
    gain = _gained(model, x[nearest], y[nearest], eps, generator) if len(nearest) else 0
    verdict: Verdict = "suspect" if gain > tolerance(len(x)) else "pass"
    figures = f"100 steps of APGD break {int((~intact).sum())} of {len(x)} images; "
    figures += f"of the {len(nearest)} nearest to follow, 400 steps with 5 restarts break {gain}"
    return Check("more steps", verdict, figures)


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> Check:
    """Fails if the gradient of the margin is zero in every pixel, or not finite in some, for an image.

    Source: Athalye et al. 2018.
    """
    require_batch(x, y)
    with frozen(model, training=False):
        slope = _margin_gradient(Logits(model), x, y).flatten(1)
    zero, wild = int((slope == 0).all(1).sum()), int((~slope.isfinite()).any(1).sum())
    verdict: Verdict = "fail" if zero + wild > tolerance(len(x)) else "pass"
    figures = f"of {len(x)} images {zero} have a zero gradient, {wild} one that is not finite"
    if zero == len(x):
        figures += "; attacks that follow the gradient say nothing about this model"
    return Check("gradients", verdict, figures)


def repeatable(model: nn.Module, x: Tensor) -> Check:
    """Fails if the logits of an image depend on more than the image: in eval mode, they must be those of a second call,
    of a call after calls on other images, and of a call on the image alone.

    Identical calls one after the other must agree exactly. The others may differ by rounding, a share of the largest
    logit: 1e-4 in float32, 1e-2 in float16, 5e-2 in bfloat16.

    Source: Athalye et al. 2018: stochastic gradients; the mend is their expectation over transformation.
    """
    if not len(x):
        raise MirstError("there are no images to check on")
    first, second = logits_of(model, x), logits_of(model, x)
    alone = torch.cat([logits_of(model, image) for image in torch.split(x[:SINGLES], 1)])
    in_batches(model, 1 - x)
    later = logits_of(model, x)
    near = tolerance_of(model, first)
    for what, a, b, allowed in (
        ("two identical calls", first, second, 0.0),
        ("a call and the same call after calls on other images", first, later, near),
        ("an image alone and the same image in a batch", alone, first[:SINGLES], near),
    ):
        if differ(a, b, allowed):
            return Check("repeatable", "fail", f"{what} differ by up to {(a - b).abs().max().item():.3g}")
    return Check("repeatable", "pass", "the logits of an image are the same in every call, alone and in a batch")


def noise(model: nn.Module, x: Tensor, y: Tensor, eps: float, broken: int, *, generator: torch.Generator) -> Check:
    """Fails if random noise breaks more images than the attacks did.

    An image is broken by noise if one of 20 draws breaks it: 10 are uniform in the ball, 10 are corners of it.

    Args:
        broken: how many of the images `x` are misclassified, clean ones included, after the attacks at `eps`.
        generator: of the draws.

    Source: Athalye et al. 2018 (random sampling).
    """
    require_batch(x, y, eps)
    require_count(broken, len(x))
    draws: list[Attack] = [_Noise(eps), _Corner(eps)] * (NOISE_DRAWS // 2)
    by_noise = int(_broken(model, x, y, draws, generator).sum())
    verdict: Verdict = "fail" if by_noise - broken > tolerance(len(x)) else "pass"
    return Check("noise", verdict, f"random noise breaks {by_noise} of {len(x)} images, the attacks break {broken}")


def finite_differences(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Check:
    """Fails if the margin's derivatives are not those that the backward pass gives.

    A copy of the model in float64 is moved by 1e-7 along the sign of the gradient and along random signs, 0.001 off
    each image; the derivatives agree within 5 %. An image on a kink of a piecewise-linear net may disagree, so images
    are counted. Suspect if the model cannot run in float64.
    """
    require_batch(x, y)
    try:
        wrong = _derivatives_differ(copy.deepcopy(model).double(), x.double(), y, generator)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        return Check("finite differences", "suspect", f"the model cannot run in float64: {reason}")
    count = int(wrong.sum())
    verdict: Verdict = "fail" if count > tolerance(len(x)) else "pass"
    return Check(
        "finite differences", verdict, f"gradients and finite differences disagree on {count} of {len(x)} images"
    )


def require_batch(x: Tensor, y: Tensor, eps: float = 1.0) -> None:
    """Raise `MirstError` unless these are images, labels and the radius of a ball that holds more than the image."""
    checked_batch(x, y)
    if not 0 < eps <= 1:
        raise MirstError(f"eps is {eps}; it must lie above 0 and at most at 1, in units of the pixel range")


def require_count(count: int, images: int) -> None:
    """Raise `MirstError` unless `count` of `images` makes sense."""
    if not 0 <= count <= images or not images:
        raise MirstError(f"{count} of {images} images cannot be broken; counts lie between 0 and the number of images")


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
        return (x + self.eps * _signs(x, generator)).clamp(0, 1)


def _signs(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return uniform(x.shape, x, generator).round() * 2 - 1


def _broken(
    model: nn.Module, x: Tensor, y: Tensor, attacks: Iterable[Attack], generator: torch.Generator | None = None
) -> Tensor:
    """Which images are misclassified, `(N,)`: clean, or by an attack, each of which is shown what is still right."""
    broken = misclassified(logits_of(model, x), y)
    for attack in attacks:
        left = (~broken).nonzero().flatten()
        if not len(left):
            break
        attacked = attack(model, x[left], y[left], generator=generator)
        broken[left] = misclassified(logits_of(model, attacked), y[left])
    return broken


def _gained(model: nn.Module, x: Tensor, y: Tensor, eps: float, generator: torch.Generator) -> int:
    """How many images 5 runs of 400 steps break; all runs are one batch, which is faster where images are few."""
    images, labels = x.repeat(5, 1, 1, 1), y.repeat(5)
    attacked = APGD(eps=eps, loss="margin", steps=400)(model, images, labels, generator=generator)
    return int(misclassified(logits_of(model, attacked), labels).view(5, -1).any(0).sum())


def _extremes(x: Tensor, generator: torch.Generator) -> Tensor:
    """Black, white, and eight images each of gray and of black-and-white noise."""
    gray = uniform((8, *x.shape[1:]), x, generator)
    hard = uniform((8, *x.shape[1:]), x, generator).round()
    return torch.cat([torch.zeros_like(x[:1]), torch.ones_like(x[:1]), gray, hard])


def _margin_gradient(model: Logits, x: Tensor, y: Tensor) -> Tensor:
    images = x.detach().clone().requires_grad_(True)
    return input_gradient(margin(model(images), y), images)


def _derivatives_differ(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Which images' directional derivatives by autograd and by central differences are not the same, `(N,)`."""
    net = Logits(model)
    with frozen(model, training=False):
        point = random_point(JITTER + (1 - 2 * JITTER) * x, JITTER, generator)
        slope = _margin_gradient(net, point, y)
        with torch.no_grad():
            logits = model(point.clone())  # `Logits` would hide that it is not in float64
            if logits.dtype != torch.float64:
                raise TypeError("its logits are not in float64")
            unsure = ROUNDING * logits.abs().amax(1)
            length = slope.flatten(1).norm(dim=1)  # what a random direction's derivative is expected to be
            wrong = torch.zeros_like(y, dtype=torch.bool)
            for direction in (slope.sign(), _signs(point, generator)):
                claimed = (slope * direction).flatten(1).sum(1)
                ahead = margin(net(point + DIFFERENCE * direction), y)
                behind = margin(net(point - DIFFERENCE * direction), y)
                measured = (ahead - behind) / (2 * DIFFERENCE)
                size = torch.stack([measured.abs(), claimed.abs(), length]).amax(0)
                wrong |= ~((measured - claimed).abs() <= AGREEMENT * size + unsure)  # also catches NaN
    return wrong
