"""The adaptive attack on drop-max: the same outputs, surrogate gradients through the pool (BPDA)."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirst.attacks.base import Attack
from mirst.attacks.swapped_gradient import with_gradient_of
from mirst.errors import MirstError
from mirst.nn import DropMax2d

Backward = Literal["max", "average", "exact"]


@dataclass(frozen=True, kw_only=True)
class SurrogateBackward:
    """Runs `attack` with the gradient of another pooling in place of that of drop-max (BPDA, Athalye et al. 2018).

    The largest value of a window has a gradient of exactly 0 in drop-max, so an attack that follows the true gradient
    never changes it. The gradient of max-pooling does. The outputs of the layers stay the same. A model without
    drop-max is attacked unchanged.

    Raises:
        MirstError: an unknown `backward`, on construction.

    >>> from mirst.attacks import PGD
    >>> model = nn.Sequential(DropMax2d(2), nn.Flatten(), nn.Linear(1, 2))
    >>> x, y = torch.tensor([[[[0.9, 0.2], [0.1, 0.5]]]]), torch.tensor([0])
    >>> attack = PGD(eps=8 / 255)
    >>> (attack(model, x, y) != x).int().tolist()  # the second largest pixel
    [[[[0, 0], [0, 1]]]]
    >>> (SurrogateBackward(attack=attack)(model, x, y) != x).int().tolist()  # the largest pixel
    [[[[1, 0], [0, 0]]]]
    """

    attack: Attack
    backward: Backward = "max"
    """The gradient of max-pooling, of the mean of the two largest values, or of drop-max itself."""

    def __post_init__(self) -> None:
        if self.backward not in ("max", "average", "exact"):
            raise MirstError(f"backward is {self.backward}; choose max, average or exact")

    @property
    def eps(self) -> float:
        """Radius of the ball, in units of the [0, 1] pixel range."""
        return self.attack.eps

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        with differentiated_as(model, self.backward):
            return self.attack(model, x, y, generator=generator)


@contextmanager
def differentiated_as(model: nn.Module, backward: Backward) -> Iterator[None]:
    """Inside the block every drop-max layer of `model` has the gradient of a surrogate."""
    with ExitStack() as stack:
        for layer in model.modules():
            if isinstance(layer, DropMax2d) and backward != "exact":
                hook = layer.register_forward_hook(lambda *call: _swapped(*call, backward=backward))
                stack.callback(hook.remove)
        yield


def _swapped(layer: DropMax2d, inputs: tuple[Tensor], output: Tensor, *, backward: Backward) -> Tensor:
    largest = F.max_pool2d(inputs[0], layer.kernel_size, layer.stride, layer.padding)
    surrogate = largest if backward == "max" else (largest + output) / 2
    return with_gradient_of(surrogate, output)
