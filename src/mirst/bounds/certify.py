"""Certificates: what no perturbation inside eps can change about the predictions of a model."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mirst.batches import checked_batch, require_labels
from mirst.bounds.backward import lower_bounds
from mirst.bounds.boxes import Box
from mirst.bounds.graph import trace
from mirst.bounds.interval import run
from mirst.bounds.largest import largest
from mirst.bounds.program import Program
from mirst.bounds.rounding import DOUBLE, Rounding, rounding_of
from mirst.bounds.settled import settled
from mirst.errors import MirstError, suggestion
from mirst.nn.box_fusion import fusions
from mirst.nn.device import device_of, require_float64
from mirst.nn.frozen import frozen
from mirst.nn.logits import logits_of
from mirst.random_draws import seeded

EXCESS = 1e-6
"""Added to eps: an attacked image in float32 may exceed its eps by rounding, and evaluation tolerates this much."""
PIXELS = 2**16
"""Of the images that are bounded at a time."""
COMPARED = 4
"""Images on which the logits of the model are compared with their bounds at eps 0."""


def interval(program: Program, box: Box, rounding: Rounding, rows: Tensor) -> Tensor:
    """Lower bounds `(S, N)` of linear functions of the logits by intervals; the last affine layers are folded."""
    record = run(program, box, rounding)
    return lower_bounds(record, len(program.steps) - 1, rows, relax=False)


def crown(program: Program, box: Box, rounding: Rounding, rows: Tensor) -> Tensor:
    """Those by linear relaxation backwards from the logits, inside interval bounds; the better of both."""
    record = run(program, box, rounding, keep=True)
    both = [lower_bounds(record, len(program.steps) - 1, rows, relax=relax) for relax in (False, True)]
    return torch.maximum(*both)


METHODS: dict[str, Callable[[Program, Box, Rounding, Tensor], Tensor]] = {"interval": interval, "crown": crown}
"""`crown` is tighter and slower."""


def margin_bounds(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    method: str = "interval",
    threshold: float = 0.0,
    positive: int | None = None,
) -> Tensor:
    """A sound lower bound of each image's margin inside eps, `(N,)` in float64; above 0 the prediction is certified.

    The margin is the logit of the label minus the largest other one, its least value over all images in [0, 1] within
    eps of `x` in each pixel. It holds for the model as it is deployed, rounding included
    (`docs/decisions/certificates-in-floating-point.md`). The box code of a model with a box is not perturbed.

    Args:
        model: evaluated in eval mode, and left as it is.
        x: `(N, C, H, W)` in [0, 1].
        y: `(N,)` labels.
        eps: in units of the pixel range; one number, or `(N,)`.
        method: a key of `METHODS`.
        threshold: operating point of a model of two classes: the positive class is predicted if its log-odds exceed it.
        positive: index of the positive class, for the threshold.

    Raises:
        MirstError: a layer without bounds, a model that draws at random or has weights in half precision, a bad
            batch, method, eps or threshold.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> with torch.no_grad():
    ...     _ = model[1].weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4])), model[1].bias.zero_()
    >>> x = torch.full((1, 1, 2, 2), 0.5)
    >>> margin_bounds(model, x, torch.tensor([1]), eps=0.1).numpy().round(3).tolist()
    [1.6]
    """
    x, y = _checked(model, x, y)
    return Certifier(model, x, method, threshold, positive).margins(x, y, _each(eps, x))


def score_bounds(
    model: nn.Module,
    x: Tensor,
    is_positive: Tensor,
    eps: float | Tensor,
    *,
    method: str = "interval",
    positive: int = 1,
) -> Tensor:
    """A sound bound of each image's worst score inside eps, `(N,)` in float64.

    The score is the log-odds of the positive class against all others. Its lower bound is returned for positive images
    and its upper bound for the others, so that their AUC is a lower bound of the AUC under any attack.

    Args:
        is_positive: `(N,)` booleans.
        positive: index of the positive class.

    The other arguments and errors are those of `margin_bounds`.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> x = torch.rand(2, 1, 2, 2)
    >>> low, high = score_bounds(model, x[:1].expand(2, -1, -1, -1), torch.tensor([True, False]), eps=0.1)
    >>> bool(low < high)
    True
    """
    x, is_positive = _checked(model, x, is_positive.long())
    certifier = Certifier(model, x, method)
    return certifier.scores(x, is_positive.bool(), _each(eps, x), positive)


def largest_certified_eps(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    method: str = "interval",
    tolerance: float = 0.05 / 255,
    threshold: float = 0.0,
    positive: int | None = None,
) -> Tensor:
    """The largest eps at which each image is certified, `(N,)` in float64, as by bisection; 0 if there is none.

    The image is certified at the returned eps, and no certificate exists at an eps larger by `tolerance` (with `crown`
    it may at a still larger one). 1 is the largest: then no image in [0, 1] changes the prediction.

    Args:
        tolerance: in units of the pixel range.

    The other arguments and errors are those of `margin_bounds`.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> with torch.no_grad():
    ...     _ = model[1].weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4])), model[1].bias.fill_(0)
    >>> x = torch.full((1, 1, 2, 2), 0.25)
    >>> largest_certified_eps(model, x, torch.tensor([1])).numpy().round(2).tolist()
    [0.25]
    """
    x, y = _checked(model, x, y)
    if not 0 < tolerance < 1:
        raise MirstError(f"tolerance is {tolerance}; it must be above 0 and below 1")
    steps = 2 ** math.ceil(math.log2(1 / tolerance))
    low = torch.zeros(len(x), dtype=torch.long)
    for bounds in dict.fromkeys(["interval", method]):  # intervals are quick, and no other method certifies less
        margins = partial(Certifier(model, x, bounds, threshold, positive).margins_of, x, y)
        low = largest(margins, low, steps)
    return low.double().div(steps)


class Certifier:
    """A traced model with its slack for rounding, checked on some images.

    Raises:
        MirstError: as `margin_bounds`.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, method: str, threshold: float = 0.0, positive: int | None = None
    ) -> None:
        if method not in METHODS:
            raise MirstError(f"there is no method {method}{suggestion(method, list(METHODS))}")
        self.model = model
        self.bounds = METHODS[method]
        self.rounding = rounding_of(model, x)
        logits = _deterministic_logits(model, x[:COMPARED])
        self.classes = logits.shape[1]
        with frozen(model, training=False):
            self.program = settled(trace(model))
        self._require_agreement(x[:COMPARED], logits)
        self.shift = self._shift(threshold, positive)

    def margins(self, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
        """As `margin_bounds`, with an eps for each image."""
        require_labels(y, self.classes)
        classes = torch.eye(self.classes, dtype=torch.float64)
        rows = classes[y][None] - classes[:, None]
        shift = rows @ self.shift
        slack = 4 * self.rounding.unit * self.shift.abs().sum()
        bounds = self._bounds(x, rows, eps) - shift - slack
        return bounds.scatter(0, y[None], torch.inf).amin(0)

    def margins_of(self, x: Tensor, y: Tensor, images: Tensor, eps: Tensor) -> Tensor:
        """As `margins`, of the images with these indices."""
        return self.margins(x[images], y[images], eps)

    def scores(self, x: Tensor, is_positive: Tensor, eps: Tensor, positive: int) -> Tensor:
        """As `score_bounds`, with an eps for each image."""
        if not 0 <= positive < self.classes:
            raise MirstError(f"positive is {positive}; the model has the classes 0 to {self.classes - 1}")
        sign = is_positive.double() * 2 - 1
        classes = torch.eye(self.classes, dtype=torch.float64)
        others = [k for k in range(self.classes) if k != positive]
        gaps = self._bounds(x, (classes[positive] - classes[others])[:, None] * sign[:, None], eps)
        score = -(-sign * gaps).logsumexp(0)
        return score - sign * 64 * DOUBLE * (1 + score.abs())

    def _bounds(self, x: Tensor, rows: Tensor, eps: Tensor) -> Tensor:
        """`(S, N)` on the CPU; minus infinity where a bound overflows."""
        size = max(1, PIXELS // x[0, 0].numel())
        device, parts = device_of(self.model), []
        with frozen(self.model, training=False), torch.no_grad():
            for part, at, row in zip(
                torch.split(x, size), torch.split(eps, size), torch.split(rows, size, 1), strict=True
            ):
                box = _box(self.model, part.to(device), at.to(device))
                parts.append(self.bounds(self.program, box, self.rounding, row.to(device)).cpu())
        return torch.nan_to_num(torch.cat(parts, 1), nan=-torch.inf, posinf=-torch.inf)

    def _require_agreement(self, x: Tensor, logits: Tensor) -> None:
        images = x.to(device_of(self.model)).double()
        with frozen(self.model, training=False), torch.no_grad():
            low, high = run(self.program, Box.between(images, images), self.rounding).box(-1).parts()
        if bool(((logits < low) | (logits > high)).any()):
            raise MirstError(
                f"the bounds of {type(self.model).__name__} do not contain its own logits: its forward computes "
                "something that torch.fx does not see; write it with layers and functions of torch alone"
            )

    def _shift(self, threshold: float, positive: int | None) -> Tensor:
        """What the operating point subtracts from each logit."""
        shift = torch.zeros(self.classes, dtype=torch.float64)
        if not threshold:
            return shift
        if self.classes != 2 or positive not in (0, 1) or not math.isfinite(threshold):
            raise MirstError(
                f"threshold is {threshold} with {self.classes} classes and positive class {positive}; a threshold is a "
                "finite number, for two classes with the positive class 0 or 1"
            )
        shift[positive] = threshold
        return shift


def _deterministic_logits(model: nn.Module, x: Tensor) -> Tensor:
    device = device_of(model)
    with seeded(0, device):
        first, second = (logits_of(model, x.to(device)).double() for _ in range(2))
    if not torch.allclose(first, second, rtol=0, atol=1e-6 * float(first.nan_to_num().abs().max()), equal_nan=True):
        raise MirstError(
            f"{type(model).__name__} returns different logits when it is called twice, so it has no certificate; "
            "certify a model without random draws"
        )
    return first


def _checked(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = checked_batch(x, y)
    return x.cpu(), y.cpu()


def _each(eps: float | Tensor, x: Tensor) -> Tensor:
    """One eps for each image, in float64."""
    each = torch.as_tensor(eps, dtype=torch.float64).cpu().expand(len(x))
    if not bool(((each >= 0) & each.isfinite()).all()):
        raise MirstError(f"eps is {eps}; it must be a finite number of at least 0, in units of the pixel range")
    return each


def _box(model: nn.Module, x: Tensor, eps: Tensor) -> Box:
    """All images in [0, 1] within eps of `x`, `(N, C, H, W)`; a box code stays as it is."""
    require_float64(x.device)
    reach = torch.zeros_like(x, dtype=torch.float64) + (eps + EXCESS)[:, None, None, None]
    if fusions(model):
        reach[:, -1:] = 0.0
    images = x.double()
    return Box.between((images - reach).clamp(0, 1), (images + reach).clamp(0, 1))
