"""Square attack: random search over square patches, without gradients."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, attackable, require_fields
from mirst.attacks.best import Best, success
from mirst.errors import MirstError
from mirst.nn.logits import Logits
from mirst.random_draws import uniform

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the area of the squares is halved."""


@dataclass(frozen=True, kw_only=True)
class Square:
    """Square attack in the L-infinity norm (Andriushchenko et al. 2020, Algorithms 1 and 2).

    It starts from vertical stripes at the edge of the ball, changes one random square at a time, and keeps the changes
    that raise the margin. It stops at the first misclassified image.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    >>> x, y = torch.full((3, 1, 4, 4), 0.5), torch.tensor([0, 1, 0])
    >>> attacked = Square(eps=8 / 255, queries=50)(model, x, y, generator=torch.Generator().manual_seed(0))
    >>> bool(((attacked - x).abs() <= 8 / 255 + 1e-6).all())
    True
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range."""
    queries: int = 5000
    """Calls of the model per image and run."""
    patch: float = 0.8
    """Area of the first squares, as a share of the image."""
    targeted: bool = False
    """If true, `y` is the class that the attack tries to reach; otherwise the true class."""
    restarts: int = 1
    """Number of runs; the best result for each image is kept."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps, restarts=self.restarts)
        if self.queries < 1:
            raise MirstError(f"queries is {self.queries}; it must be at least 1")
        if not 0 < self.patch <= 1:
            raise MirstError(f"patch is {self.patch}; it must be a share of the image, above 0 and at most 1")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        with attackable(model, x, y) as (net, x, y), torch.no_grad():
            best = Best(x, y, targeted=self.targeted)
            best.update(x, net(x))
            for _ in range(self.restarts):
                self._run(net, x, y, best, generator)
        return best.images

    def _run(self, model: Logits, x: Tensor, y: Tensor, best: Best, generator: torch.Generator | None) -> None:
        signs = uniform((len(x), x.shape[1], 1, x.shape[3]), x, generator).round() * 2 - 1
        left = (best.margin <= 0).nonzero().flatten()
        search = _Search((x + self.eps * signs).clamp(0, 1)[left], x[left], self.eps)
        for query in range(1, self.queries + 1):
            if not len(left):
                return
            search.keep_gains(success(model(search.images), y[left], targeted=self.targeted))
            undecided = search.margin <= 0
            if query == self.queries or not undecided.all():
                best.keep(search.images, search.margin, left)
            search.propose(self._side(query, x), generator)
            if not undecided.all():
                left = left[undecided]
                search.drop(~undecided)

    def _side(self, query: int, x: Tensor) -> int:
        """Side of the squares at a query, in pixels."""
        halvings = sum(query * 10_000 > after * self.queries for after in HALVINGS)
        return max(1, round(math.sqrt(self.patch / 2**halvings * x.shape[2] * x.shape[3])))


class _Search:
    """Images in a random search. A query changes one square of each in place and takes it back if it gains nothing.

    Args:
        images: the first proposals, `(N, C, H, W)`.
        x: the clean images.
        eps: what the squares add or subtract.
    """

    def __init__(self, images: Tensor, x: Tensor, eps: float) -> None:
        self.images, self.x, self.eps = images.contiguous(), x.contiguous(), eps
        self.margin = x.new_full((len(x),), -torch.inf)
        self._pixels = torch.zeros(len(x), 0, dtype=torch.long, device=x.device)
        self._before = self._after = x.new_zeros(len(x), 0)

    def keep_gains(self, gain: Tensor) -> None:
        """Take the squares back whose `gain`, `(N,)`, does not exceed the margin so far."""
        better = gain > self.margin
        self.margin = torch.where(better, gain, self.margin)
        kept = torch.where(better[:, None], self._after, self._before)
        self.images.view(len(gain), -1).scatter_(1, self._pixels, kept)

    def drop(self, which: Tensor) -> None:
        """Go on without the images at `which`, `(N,)` truth values."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[~which])

    def propose(self, side: int, generator: torch.Generator | None) -> None:
        """Set one random square of each image to the edge of the ball, with a random sign per channel."""
        n, channels, height, width = self.x.shape
        rows, columns = (self._span(length, side, generator) for length in (height, width))
        signs = uniform((n, channels, 1), self.x, generator).round() * 2 - 1
        square = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
        planes = torch.arange(channels, device=self.x.device) * (height * width)
        self._pixels = (planes[:, None] + square[:, None, :]).flatten(1)
        flat, clean = self.images.view(n, -1), self.x.view(n, -1).gather(1, self._pixels).view(n, channels, -1)
        self._before = flat.gather(1, self._pixels)
        self._after = (clean + self.eps * signs).clamp(0, 1).flatten(1)
        flat.scatter_(1, self._pixels, self._after)

    def _span(self, length: int, side: int, generator: torch.Generator | None) -> Tensor:
        """Rows or columns of a random square of each image, `(N, min(side, length))`."""
        begin = (uniform((len(self.x), 1), self.x, generator) * max(1, length - side + 1)).floor().long()
        return begin + torch.arange(min(side, length), device=self.x.device)
