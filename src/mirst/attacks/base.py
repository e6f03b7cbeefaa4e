"""What every attack is, and the checks that all of them make."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mirst.batches import checked_batch, require_labels
from mirst.errors import MirstError
from mirst.nn.accelerate.agreement import optimized
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits

PAPER_EPS = 5 / 255


class Attack(Protocol):
    """A frozen, keyword-only dataclass whose fields are its configuration.

    Called on a model, images and labels it returns attacked images of the same shape: inside
    [0, 1], within `eps` of `x` in the L-infinity norm, finite, and detached. It leaves the model
    as it found it and never claims success: `mirst.evaluation` recomputes that.
    """

    @property
    def eps(self) -> float:
        """Radius of the ball, in units of the [0, 1] pixel range."""
        ...

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Attack `x`, `(N, C, H, W)` in [0, 1], labelled `y`, `(N,)` integers."""
        ...


class Minimum(NamedTuple):
    """What a minimum-norm attack found."""

    images: Tensor
    """Like `x`: the nearest success; the clean image where there was none."""
    distances: Tensor
    """`(N,)`, L-infinity, in units of the pixel range: 0 where the clean image is misclassified,
    infinite where there was no success."""


class MinimumNormAttack(Protocol):
    """A frozen, keyword-only dataclass that looks for the nearest success, whatever its distance.

    As with `Attack`, the images lie in [0, 1] and the model is left as found.
    """

    def minimum(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Minimum:
        """Attack `x`, `(N, C, H, W)` in [0, 1], labelled `y`, `(N,)` integers."""
        ...


def require_fields(*, eps: float, step_size: float = 1.0, steps: int = 1, restarts: int = 1) -> None:
    """Raise `MirstError` naming the first attack field that makes no sense."""
    for name, value in {"eps": eps, "step_size": step_size}.items():
        if not isinstance(value, int | float):
            raise MirstError(f"{name} is {value!r}; it must be a number, such as 5 / 255")
    for name, value in {"steps": steps, "restarts": restarts}.items():
        if not isinstance(value, int):
            raise MirstError(f"{name} is {value!r}; it must be a whole number")
    if not 0 <= eps <= 1:
        raise MirstError(f"eps is {eps}; it must lie in [0, 1], in units of the pixel range (5/255 = 0.0196)")
    if not step_size > 0:
        raise MirstError(f"step_size is {step_size}; it must be positive")
    if steps < 1:
        raise MirstError(f"steps is {steps}; it must be at least 1")
    if restarts < 1:
        raise MirstError(f"restarts is {restarts}; it must be at least 1")


@contextmanager
def attackable(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[tuple[Logits, Tensor, Tensor]]:
    """What an attack works on: the model in eval mode, frozen, as a faster copy where that is equal; images and labels.

    The copy was compared with the model on some of the images. The images and labels are the caller's no more.

    Raises:
        MirstError: images, labels or an output of the model that cannot be attacked.
    """
    x, y = checked_batch(x, y)
    with frozen(model, training=False):
        net = optimized(model, x)
        assert net.classes is not None  # it has been called
        require_labels(y, net.classes)
        yield net, x.clone(), y.clone()
