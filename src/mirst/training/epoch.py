"""What an interrupted epoch needs to resume between two of its steps."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mirst.nn.device import device_of
from mirst.random_draws import seeded


@dataclass
class PartialEpoch:
    """The steps of an epoch so far, apart from model, optimizer and extensions.

    >>> PartialEpoch(losses=[0.7, 0.5], terms={"clean": 1.2}).seconds
    0.0
    """

    losses: list[float] = field(default_factory=list)
    """One per step."""
    terms: dict[str, float] = field(default_factory=dict)
    """Sums over the steps."""
    generators: list[Tensor] = field(default_factory=list)
    """States of torch's global generators, the CPU's first; none before the first step."""
    seconds: float = 0.0


class Interrupted(Exception):
    """Training stopped between two steps of an epoch; `TrainingRun.partial` holds the steps so far.

    >>> issubclass(Interrupted, Exception)
    True
    """


def seeded_epoch(model: nn.Module, seed: int, epoch: int) -> AbstractContextManager[None]:
    """Torch's global generators seeded by seed and epoch, and put back afterwards."""
    return seeded((seed << 16) + epoch, device_of(model))


def generator_states(device: torch.device) -> list[Tensor]:
    """States of torch's global generators, of the CPU and of `device`."""
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, getattr(torch, device.type).get_rng_state(device)]


def set_generators(states: list[Tensor], device: torch.device) -> None:
    """Put torch's global generators into the states of `generator_states`; none are left as they are."""
    if states:
        torch.set_rng_state(states[0])
    if device.type != "cpu" and len(states) > 1:
        getattr(torch, device.type).set_rng_state(states[1], device)
