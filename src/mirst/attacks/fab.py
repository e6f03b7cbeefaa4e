"""Fast adaptive boundary attack: the nearest misclassified image, by projections onto the linearised boundary."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, Minimum, attackable, require_fields
from mirst.attacks.best import clean_minimum, nearer, per_image, reached, success
from mirst.attacks.descent import random_point
from mirst.batches import checked_batch
from mirst.nn.logits import Logits, input_gradient

OVERSHOOT = 1.05
BACKWARD = 0.9
"""Share of the distance to the clean image that is kept when the search continues from a misclassified image."""
MAX_PULL = 0.1
"""Largest weight of the clean image in a step."""
BISECTIONS = 10


@dataclass(frozen=True, kw_only=True)
class FAB:
    """Fast adaptive boundary attack in the L-infinity norm (Croce and Hein 2020b).

    It searches for the nearest misclassified image at any distance. `__call__` returns that image where it is within
    `eps`, and the clean image elsewhere. `minimum` returns images and distances. With more than two classes, each step
    goes to the class whose linearised boundary is nearest.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = model[1].weight.data.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4])), model[1].bias.data.zero_()
    >>> x, y = torch.full((1, 1, 2, 2), 0.1), torch.tensor([1])
    >>> attack = FAB(eps=0.2, steps=20)
    >>> round(float(attack.minimum(model, x, y).distances), 3)
    0.1
    >>> model(attack(model, x, y)).argmax(1)
    tensor([0])
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range."""
    steps: int = 100
    targeted: bool = False
    """If true, `y` is the class that the attack tries to reach; otherwise the true class."""
    random_start: bool = False
    """Start uniformly inside the ball instead of at `x`."""
    restarts: int = 1
    """Number of runs; the nearest misclassified image is kept. Every run after the first starts at a random point."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps, steps=self.steps, restarts=self.restarts)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        x, y = checked_batch(x, y)
        images, distances = self.minimum(model, x, y, generator=generator)
        return per_image(distances <= self.eps, images, x)

    def minimum(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Minimum:
        """The nearest misclassified image for each clean image, and its distance."""
        with attackable(model, x, y) as (fast, x, y):
            net = Logits(model)
            nearest = clean_minimum(net, x, y, targeted=self.targeted)
            for run in range(self.restarts):
                start = random_point(x, self.eps, generator) if self.random_start or run else x
                nearest = self._refined(net, x, y, self._run(net, fast, x, y, start, nearest))
        return nearest

    def _run(self, net: Logits, fast: Logits, x: Tensor, y: Tensor, start: Tensor, nearest: Minimum) -> Minimum:
        """Slopes come from the optimized copy; the model itself decides which images are misclassified."""
        current = start
        for _ in range(self.steps):
            gap, slope = self._nearest_boundary(fast, current, y)
            # One step from here, one from the clean image, both onto the same linearised boundary.
            here = onto_plane(current, slope, gap)
            clean = onto_plane(x, slope, gap - (slope * (x - current)).flatten(1).sum(1))
            lengths = [step.abs().flatten(1).amax(1) for step in (here, clean)]
            pull = (lengths[0] / (lengths[0] + lengths[1]).clamp(min=1e-12)).clamp(0, MAX_PULL).view(-1, 1, 1, 1)
            ahead = (1 - pull) * (current + OVERSHOOT * here) + pull * (x + OVERSHOOT * clean)
            current = ahead.clamp(0, 1)
            with torch.no_grad():
                wrong = reached(net(current), y, targeted=self.targeted)
            nearest = nearer(nearest, x, current, wrong)
            current = per_image(wrong, (1 - BACKWARD) * x + BACKWARD * current, current)
        return nearest

    def _nearest_boundary(self, net: Logits, images: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The rise of the margin that reaches the boundary, `(N,)`, and the gradient of the margin; 0 if not finite."""
        images = images.detach().requires_grad_(True)
        logits = net(images)
        own = logits.gather(1, y[:, None]).squeeze(1)
        if self.targeted or logits.shape[1] == 2:
            ahead = success(logits, y, targeted=self.targeted)
            return -_finite(ahead), _gradient(ahead, images, last=True)
        nearest: tuple[Tensor, Tensor, Tensor] | None = None
        for k in range(logits.shape[1]):
            ahead = logits[:, k] - own
            slope = _gradient(ahead, images, last=k == logits.shape[1] - 1)
            rise = _finite(ahead)
            away = rise.abs() / slope.abs().flatten(1).sum(1).clamp(min=1e-12)
            away = away.masked_fill(y == k, torch.inf)
            if nearest is None:
                nearest = away, -rise, slope
                continue
            closer = away < nearest[0]
            nearest = (
                torch.where(closer, away, nearest[0]),
                torch.where(closer, -rise, nearest[1]),
                per_image(closer, slope, nearest[2]),
            )
        assert nearest is not None
        return nearest[1], nearest[2]

    def _refined(self, net: Logits, x: Tensor, y: Tensor, nearest: Minimum) -> Minimum:
        """Bisection between the clean image and the nearest misclassified one."""
        low, high = torch.zeros_like(nearest.distances), torch.ones_like(nearest.distances)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            images = x + middle.view(-1, 1, 1, 1) * (nearest.images - x)
            with torch.no_grad():
                wrong = reached(net(images), y, targeted=self.targeted)
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        images = x + high.view(-1, 1, 1, 1) * (nearest.images - x)
        with torch.no_grad():
            wrong = reached(net(images), y, targeted=self.targeted)
        return nearer(nearest, x, images, wrong)


def onto_plane(x: Tensor, slope: Tensor, gap: Tensor) -> Tensor:
    """The step of smallest L-infinity norm with `slope . step = gap` that stays in the [0, 1] box.

    Every pixel moves by the same length, or to the edge of the box. If no step in the box is enough, all pixels move
    to the edge.

    Args:
        x: `(N, C, H, W)` in [0, 1].
        slope: like `x`.
        gap: `(N,)`, of either sign.
    """
    flat, weight = x.flatten(1), slope.flatten(1).abs()
    direction = slope.flatten(1).sign() * gap.sign()[:, None]
    room = torch.where(direction > 0, 1 - flat, flat)
    length = _common_length(room, weight, gap.abs()[:, None])
    return (direction * length).clamp(-flat, 1 - flat).view_as(x)


def _common_length(room: Tensor, weight: Tensor, gap: Tensor) -> Tensor:
    """The length at which the sum of `weight * min(room, length)` is `gap`, at most the largest room; `(N, 1)`.

    The sum is concave in the length, so Newton's method rises from the left to the solution. It ends when no further
    pixel reaches the edge of the box.
    """
    spent, largest = room * weight, room.amax(1, keepdim=True)
    edge, length = torch.zeros_like(room, dtype=torch.bool), torch.zeros_like(gap)
    while True:
        rest = weight.masked_fill(edge, 0).sum(1, keepdim=True).clamp(min=1e-12)
        done = (spent * edge).sum(1, keepdim=True)
        length = torch.maximum(length, torch.minimum((gap - done) / rest, largest))
        before, edge = edge, room <= length
        if torch.equal(before, edge):
            return length


def _gradient(values: Tensor, images: Tensor, *, last: bool) -> Tensor:
    return input_gradient(values, images, retain_graph=not last).nan_to_num(0.0)


def _finite(values: Tensor) -> Tensor:
    return values.detach().nan_to_num(0.0, 0.0, 0.0)
