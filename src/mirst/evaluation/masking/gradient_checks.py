"""Checks of what a model returns: its gradients, and whether its logits depend on the image alone."""

import copy

import torch
from torch import Tensor, nn

from mirst.attacks.descent import random_point
from mirst.attacks.losses import margin
from mirst.errors import MirstError
from mirst.evaluation.judge import differ, in_batches, tolerance_of
from mirst.evaluation.masking.check import Check, failing, random_signs, require_batch, tolerance
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits, input_gradient, logits_of

SINGLES = 16
"""Number of images that the model is also called on one by one."""
JITTER = 1e-3
"""How far from each image finite differences are taken: at the image itself the max-pool windows of a
uniform background tie, and no derivative exists."""
DIFFERENCE = 1e-7
"""Step of the finite differences, in units of the pixel range; a longer step crosses kinks of ReLU and max-pool."""
AGREEMENT = 0.05
"""Relative difference up to which two derivatives agree."""
ROUNDING = 1e-7
"""Uncertainty of a finite difference in float64, as a share of the largest logit."""


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> Check:
    """Fails if for an image the gradient of the margin is zero in every pixel, or is not finite in some pixel.

    Source: Athalye et al. 2018.
    """
    require_batch(x, y)
    with frozen(model, training=False):
        slope = _margin_gradient(Logits(model), x, y).flatten(1)
    zero, wild = int((slope == 0).all(1).sum()), int((~slope.isfinite()).any(1).sum())
    figures = f"of {len(x)} images, {zero} have a zero gradient and {wild} have one that is not finite"
    if zero == len(x):
        figures += "; gradient attacks give no evidence about the robustness of this model"
    return failing("gradients", zero + wild > tolerance(len(x)), figures)


def repeatable(model: nn.Module, x: Tensor) -> Check:
    """Fails if the logits of an image depend on more than the image.

    In eval mode, the logits must be the same in a second call, in a call after calls on other images, and in a call on
    the image alone. The second call must agree exactly. The others may differ by rounding, a share of the largest
    logit: 1e-4 in float32, 1e-2 in float16, 5e-2 in bfloat16.

    Raises:
        MirstError: no images.

    Source: Athalye et al. 2018, stochastic gradients; their remedy is the expectation over transformation.
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


def finite_differences(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Check:
    """Fails if the derivatives of the margin differ from those of the backward pass.

    A copy of the model runs in float64. At a point 0.001 from each image, it takes steps of 1e-7 along the sign of the
    gradient and along random signs. Derivatives agree if they differ by at most 5 %. An image on a kink of a
    piecewise-linear network may disagree, so the disagreeing images are counted. Suspect if the model cannot run in
    float64.
    """
    require_batch(x, y)
    try:
        wrong = _derivatives_differ(copy.deepcopy(model).double(), x.double(), y, generator)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        return Check("finite differences", "suspect", f"the model cannot run in float64: {reason}")
    count = int(wrong.sum())
    figures = f"gradients and finite differences disagree on {count} of {len(x)} images"
    return failing("finite differences", count > tolerance(len(x)), figures)


def _margin_gradient(model: Logits, x: Tensor, y: Tensor) -> Tensor:
    images = x.detach().clone().requires_grad_(True)
    return input_gradient(margin(model(images), y), images)


def _derivatives_differ(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """On which images the directional derivatives by autograd and by central differences disagree, `(N,)`."""
    net = Logits(model)
    with frozen(model, training=False):
        point = random_point(JITTER + (1 - 2 * JITTER) * x, JITTER, generator)
        slope = _margin_gradient(net, point, y)
        with torch.no_grad():
            logits = model(point.clone())  # `Logits` would convert it to float64
            if logits.dtype != torch.float64:
                raise TypeError("its logits are not in float64")
            unsure = ROUNDING * logits.abs().amax(1)
            length = slope.flatten(1).norm(dim=1)  # the expected size of a derivative along a random direction
            wrong = torch.zeros_like(y, dtype=torch.bool)
            for direction in (slope.sign(), random_signs(point, generator)):
                claimed = (slope * direction).flatten(1).sum(1)
                ahead = margin(net(point + DIFFERENCE * direction), y)
                behind = margin(net(point - DIFFERENCE * direction), y)
                measured = (ahead - behind) / (2 * DIFFERENCE)
                size = torch.stack([measured.abs(), claimed.abs(), length]).amax(0)
                wrong |= ~((measured - claimed).abs() <= AGREEMENT * size + unsure)  # NaN counts as disagreement
    return wrong
