"""The interfaces of attacks, and the checks that all of them make."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import Field
from typing import Any, ClassVar, NamedTuple, Protocol

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

    Called on a model, images and labels, it returns attacked images of the same shape: in [0, 1], within `eps` of `x`
    in the L-infinity norm, finite, and detached. The model is unchanged afterwards. An attack does not report
    success: `mirst.evaluation` computes it from the images.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Brighten:
    ...     eps: float
    ...     def __call__(self, model, x, y, *, generator=None):
    ...         return (x + self.eps).clamp(max=1)
    >>> attack: Attack = Brighten(eps=8 / 255)
    >>> attack(nn.Flatten(), torch.zeros(1, 1, 2, 2), torch.tensor([0])).unique()
    tensor([0.0314])
    """

    @property
    def eps(self) -> float:
        """Radius of the ball, in units of the [0, 1] pixel range."""
        ...

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Attack `x`, `(N, C, H, W)` in [0, 1], labelled `y`, `(N,)` integers."""
        ...


class ConfigurableAttack(Attack, Protocol):
    """An attack that a study configures by name: each field of the dataclass is a number, a truth value or a word.

    Every entry of `ATTACKS` is one. Attacks that take another attack or a model, such as `Transfer`, are not.

    >>> from mirst.attacks import ATTACKS
    >>> ATTACKS["pgd"](eps=8 / 255, restarts=2).targeted
    False
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init__(self, *, eps: float = ..., targeted: bool = ..., restarts: int = ...) -> None: ...

    @property
    def targeted(self) -> bool:
        """Whether `y` is the class that the attack tries to reach, not the true class."""
        ...

    @property
    def restarts(self) -> int:
        """Number of runs; the best result for each image is kept."""
        ...


class Minimum(NamedTuple):
    """The result of a minimum-norm attack.

    >>> Minimum(torch.zeros(1, 1, 2, 2), torch.tensor([0.0])).distances
    tensor([0.])
    """

    images: Tensor
    """Like `x`: the nearest misclassified image that was visited; the clean image if there was none."""
    distances: Tensor
    """`(N,)`, L-infinity, in units of the pixel range: 0 where the clean image is misclassified,
    infinite where no misclassified image was visited."""


class MinimumNormAttack(Protocol):
    """A frozen, keyword-only dataclass that searches for the nearest misclassified image, at any distance.

    As with `Attack`, the images lie in [0, 1] and the model is unchanged afterwards.

    >>> from mirst.attacks import FAB
    >>> attack: MinimumNormAttack = FAB(steps=20)
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = model[1].weight.data.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4])), model[1].bias.data.zero_()
    >>> images, distances = attack.minimum(model, torch.full((1, 1, 2, 2), 0.1), torch.tensor([1]))
    >>> round(float(distances), 3)  # the class changes where the sum of the pixels is 0
    0.1
    """

    def minimum(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Minimum:
        """Attack `x`, `(N, C, H, W)` in [0, 1], labelled `y`, `(N,)` integers."""
        ...


def require_fields(*, eps: float, step_size: float = 1.0, steps: int = 1, restarts: int = 1) -> None:
    """Raise `MirstError` naming the first field of an attack that is out of range."""
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
    """The logits, images and labels that an attack works on.

    Inside the block the model is frozen and in eval mode. The logits are those of an optimized copy if it agrees with
    the model on some of the images. The images and labels are copies.

    Raises:
        MirstError: images, labels or an output of the model that cannot be attacked.
    """
    x, y = checked_batch(x, y)
    with frozen(model, training=False):
        net = optimized(model, x)
        assert net.classes is not None  # it has been called
        require_labels(y, net.classes)
        yield net, x.clone(), y.clone()
