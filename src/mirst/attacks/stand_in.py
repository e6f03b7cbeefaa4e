"""Attacks on models with layers without a useful gradient (BPDA) and on randomised models (EoT)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mirst.attacks.base import Attack
from mirst.attacks.swapped_gradient import with_gradient_of
from mirst.errors import MirstError, suggestion
from mirst.nn.logits import is_opaque

Layer = str | type[nn.Module] | nn.Module
StandIns = Mapping[Layer, Callable[..., Tensor]]
"""For each layer, a module or function that is called on the layer's inputs and differentiated in its place."""


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """Runs `attack` with the gradients of stand-ins in place of those of chosen layers (BPDA, Athalye et al. 2018).

    The outputs of the layers stay the same. A layer is given by its name in `named_modules()`, the name of its class,
    its class, or as itself; every layer that matches is replaced. A stand-in returns a tensor of the shape of the
    layer's output. `nn.Identity()` suits layers that change images little, such as rounding or JPEG.

    >>> class Rounding(nn.Module):
    ...     def forward(self, x):
    ...         return torch.round(255 * x) / 255
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4])), net[1].bias.data.zero_()
    >>> model, x, y = nn.Sequential(Rounding(), net), torch.full((1, 1, 2, 2), 0.5), torch.tensor([1])
    >>> from mirst.attacks import PGD
    >>> attack = PGD(eps=8 / 255, step_size=1 / 255)
    >>> float((attack(model, x, y) - x).abs().max())
    0.0
    >>> attacked = StandIn(attack=attack, stand_ins={Rounding: nn.Identity()})(model, x, y)
    >>> round(255 * float((attacked - x).abs().max()))
    8

    Raises:
        MirstError: a layer that the model lacks or does not call, or a stand-in that returns another shape, on call.
    """

    attack: Attack
    stand_ins: StandIns

    @property
    def eps(self) -> float:
        """Radius of the ball, in units of the [0, 1] pixel range."""
        return self.attack.eps

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        with standing_in(model, self.stand_ins):
            return self.attack(model, x, y, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Runs `attack` on the mean logits of `draws` calls of a randomised model.

    The gradient is that of the mean: expectation over transformation (EoT, Athalye et al. 2018). The model must draw
    from torch's global generators.

    Raises:
        MirstError: `draws` below 1, on construction.

    >>> from mirst.attacks import PGD
    >>> class Noise(nn.Module):
    ...     def forward(self, x):
    ...         return x + 0.1 * torch.randn_like(x)
    >>> model = nn.Sequential(Noise(), nn.Flatten(), nn.Linear(4, 2))
    >>> x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([1])
    >>> Expectation(attack=PGD(eps=8 / 255, steps=5), draws=10)(model, x, y).shape
    torch.Size([1, 1, 2, 2])
    """

    attack: Attack
    draws: int = 20

    def __post_init__(self) -> None:
        if not isinstance(self.draws, int) or self.draws < 1:
            raise MirstError(f"draws is {self.draws}; it must be a whole number, at least 1")

    @property
    def eps(self) -> float:
        """Radius of the ball, in units of the [0, 1] pixel range."""
        return self.attack.eps

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return self.attack(MeanOfDraws(model, self.draws), x, y, generator=generator)


class MeanOfDraws(nn.Module):
    """The mean logits of `draws` calls of `model`."""

    def __init__(self, model: nn.Module, draws: int) -> None:
        super().__init__()
        self.model = model
        self.draws = draws
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.clone())  # a first layer may work in place
        for _ in range(self.draws - 1):
            logits = logits + self.model(x.clone())
        return logits / self.draws


@contextmanager
def standing_in(model: nn.Module, stand_ins: StandIns) -> Iterator[None]:
    """Inside the block the layers in `stand_ins` have the gradients of their stand-ins.

    Raises:
        MirstError: as `StandIn`.
    """
    with ExitStack() as stack:
        used: set[str] = set()
        for key, stand_in in stand_ins.items():
            name = _name(key)
            for layer in _layers(model, key):
                hook = layer.register_forward_hook(_hook(name, stand_in, used))
                stack.callback(hook.remove)
        yield
        if idle := {_name(key) for key in stand_ins} - used:
            raise MirstError(
                f"the stand-in for {', '.join(sorted(idle))} was never used, since the model does not call that layer; "
                "give a layer that it calls"
            )


def resolved(model: nn.Module, stand_ins: StandIns) -> StandIns:
    """`stand_ins` with the layers of `model` themselves as keys, which stay valid inside another module.

    Raises:
        MirstError: a layer that the model lacks.
    """
    if not isinstance(stand_ins, Mapping):
        raise MirstError(f"stand-ins are of type {type(stand_ins).__name__}; give {{'layer': torch.nn.Identity()}}")
    for key, stand_in in stand_ins.items():
        if isinstance(stand_in, type) or not callable(stand_in):
            raise MirstError(f"the stand-in for {_name(key)} is {stand_in}; give a module, such as torch.nn.Identity()")
    if stand_ins and is_opaque(model):
        raise MirstError("stand-ins do not work in a compiled or scripted model; give the model before compilation")
    return {layer: stand_in for key, stand_in in stand_ins.items() for layer in _layers(model, key)}


def _name(key: Layer) -> str:
    if isinstance(key, str):
        return key
    return key.__name__ if isinstance(key, type) else type(key).__name__


def _layers(model: nn.Module, key: Layer) -> list[nn.Module]:
    found = [layer for name, layer in model.named_modules() if _fits(key, name, layer)]
    if not found:
        known = [name for name, _ in model.named_modules() if name]
        raise MirstError(f"the model has no layer {_name(key)} to put a stand-in for{suggestion(_name(key), known)}")
    return found


def _fits(key: Layer, name: str, layer: nn.Module) -> bool:
    if isinstance(key, str):
        return key in (name, type(layer).__name__)
    return isinstance(layer, key) if isinstance(key, type) else layer is key


def _hook(name: str, stand_in: Callable[..., Tensor], used: set[str]) -> Callable[..., Tensor]:
    """A closure, so that copies of the model share `used`."""

    def swap(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        used.add(name)
        with torch.enable_grad():  # the model may call the layer under no_grad
            surrogate = stand_in(*inputs)
            if surrogate.shape != output.shape:
                raise MirstError(
                    f"the stand-in for {name} returns {tuple(surrogate.shape)} where the layer returns "
                    f"{tuple(output.shape)}; let it return the layer's shape"
                )
            return with_gradient_of(surrogate, output)

    return swap
