"""The adaptive attack on drop-max: other gradients through the pool, the same answers."""

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
    """Runs `attack` while drop-max layers answer as ever but differentiate as `backward` says.

    Drop-max hides the largest value of each window, whose gradient is exactly 0: an attack that
    follows the true gradient never moves it. A backward pass through the layer that it replaced
    does (BPDA, Athalye et al. 2018). A model without drop-max is attacked as it is.

    Raises:
        MirstError: an unknown `backward`, on construction.
    """

    attack: Attack
    backward: Backward = "max"
    """As max-pool, as the mean of the two largest values, or as drop-max itself."""

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
    """Inside, every drop-max layer of `model` has the gradient of a surrogate."""
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
