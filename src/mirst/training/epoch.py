"""One epoch of training, which can be left between two steps and gone on with."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mirst.batches import Loader, checked_batches
from mirst.defenses import Defense
from mirst.errors import Diverged, MirstError
from mirst.nn.device import device_of
from mirst.training.modes import to_train_mode
from mirst.training.settings import Training

EXPLODED = 1e6
"""A loss that no training comes back from."""


@dataclass
class Begun:
    """What an epoch has done so far, beyond model and optimizer."""

    losses: list[float] = field(default_factory=list)
    """One per step."""
    terms: dict[str, float] = field(default_factory=dict)
    """Sums over the steps."""
    generators: list[Tensor] = field(default_factory=list)
    """States of torch's global generators, the CPU's first; none before the first step."""
    seconds: float = 0.0


class Left(Exception):
    """An epoch was left between two steps; the trial can go on from `begun`."""

    def __init__(self, begun: Begun) -> None:
        super().__init__()
        self.begun = begun


def train_epoch(
    model: nn.Module,
    data: Loader,
    defense: Defense,
    optimizer: torch.optim.Optimizer,
    settings: Training,
    index: int,
    begun: Begun | None = None,
    leave: Callable[[], bool] = lambda: False,
) -> tuple[float, dict[str, float]]:
    """Train on every batch once, with the learning rate of epoch `index`, from 0.

    Args:
        begun: what this epoch has done before; torch's generator must be seeded as it was then.
        leave: asked after each step.

    Returns:
        Means of the loss and of its terms over the batches.

    Raises:
        MirstError: no batch, or one that `mirst.batches.checked_batches` refuses.
        Diverged: a loss above 1e6, or a loss or weights that are not finite.
        Left: `leave` said so.
    """
    device = device_of(model)
    for group in optimizer.param_groups:
        group["lr"] = settings.lr_at(index)
    to_train_mode(model)
    begun = begun or Begun()
    losses, sums = list(begun.losses), defaultdict(float, begun.terms)
    rest = checked_batches(data, "training batch")
    for _ in losses:
        next(rest)  # the first one draws the order of the images
    _set_generators(begun.generators, device)
    for x, y in rest:
        optimizer.zero_grad(set_to_none=True)
        total, terms = defense(model, x.to(device), y.to(device))
        losses.append(total.item())
        if not losses[-1] <= EXPLODED:  # also catches NaN
            raise Diverged(f"the loss is {losses[-1]:.3g}; lower training.lr")
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for name, value in terms.items():
            sums[name] += value
        if leave():
            raise Left(Begun(losses, dict(sums), _generators(device)))
    if not losses:
        raise MirstError("the training data give no batch")
    if not all(p.isfinite().all() for p in model.parameters()):
        raise Diverged("the weights are not finite; lower training.lr")
    return sum(losses) / len(losses), {name: value / len(losses) for name, value in sums.items()}


def _generators(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_generators(states: list[Tensor], device: torch.device) -> None:
    if states:
        torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
