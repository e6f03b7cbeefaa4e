"""Signed gradient steps in an L-infinity ball, shared by FGSM, PGD and CW."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, attackable, require_fields
from mirst.attacks.best import per_image, success
from mirst.attacks.losses import cross_entropy
from mirst.nn.logits import Logits, input_gradient
from mirst.random_draws import uniform


def gradient_of(objective: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The gradient of `objective`, one value per image, `(N,)`, or their sum."""

    def gradient(images: Tensor) -> Tensor:
        return input_gradient(objective(images), images)

    return gradient


def iterates(
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    eps: float | Tensor,
    step_size: float | Tensor,
    steps: int,
    start: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield x_1 to x_T of `x_t = Proj(x_{t-1} + step_size * sign(gradient(x_{t-1})))` (MIRST-DM, Eq. 3).

    The projection is onto the ball of radius `eps` around `x` and onto [0, 1]. Where the gradient is NaN, the image
    stays. `eps` and `step_size` may differ from image to image, `(N, 1, 1, 1)`. `start` defaults to `x`; a negative
    `step_size` descends. `gradient` is called on images that require a gradient. The caller sets the model's mode
    (`frozen`).
    """
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    current = x if start is None else start
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        step = gradient(current).sign().nan_to_num_(0.0).mul_(step_size)
        current = (current.detach() + step).clamp(low, high)
        yield current


def last(run: Iterator[Tensor]) -> Tensor:
    """The last iterate."""
    return deque(run, maxlen=1).pop()


@dataclass(frozen=True, kw_only=True)
class SignDescent:
    """`steps` signed gradient steps on a loss, projected onto the ball. The result is the last iterate.

    With several restarts it is the last iterate of largest margin, for each image.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range."""
    step_size: float = 0.001
    """Length of one step, in the same units."""
    steps: int = 20
    targeted: bool = False
    """If true, `y` is the class that the attack tries to reach; otherwise the true class."""
    random_start: bool = False
    """Start uniformly inside the ball instead of at `x`."""
    restarts: int = 1
    """Number of runs; the best result for each image is kept. Every run after the first starts at a random point."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps, step_size=self.step_size, steps=self.steps, restarts=self.restarts)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        with attackable(model, x, y) as (net, x, y):
            best = self._run(net, x, y, self.random_start, generator)
            for _ in range(self.restarts - 1):
                best = self._better(net, y, best, self._run(net, x, y, True, generator))
        return best

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss to ascend, `(N,)`."""
        return cross_entropy(logits, y)

    def _run(
        self, model: Logits, x: Tensor, y: Tensor, random_start: bool, generator: torch.Generator | None
    ) -> Tensor:
        start = random_point(x, self.eps, generator) if random_start else None
        step_size = -self.step_size if self.targeted else self.step_size

        def objective(images: Tensor) -> Tensor:
            return self._loss(model(images), y)

        return last(
            iterates(gradient_of(objective), x, eps=self.eps, step_size=step_size, steps=self.steps, start=start)
        )

    def _better(self, model: Logits, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
        with torch.no_grad():
            better = success(model(b), y, targeted=self.targeted) > success(model(a), y, targeted=self.targeted)
        return per_image(better, b, a)


def random_point(x: Tensor, eps: float, generator: torch.Generator | None) -> Tensor:
    """A point drawn uniformly from the ball of radius `eps` around `x`, clamped to [0, 1]."""
    return (x + eps * (2 * uniform(x.shape, x, generator) - 1)).clamp(0, 1)
