"""What an interrupted epoch needs to resume between two of its steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mirst.nn.device import device_of


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


@contextmanager
def seeded(model: nn.Module, seed: int, epoch: int) -> Iterator[None]:
    """Torch's global generators seeded by seed and epoch, and put back afterwards."""
    device = device_of(model)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed((seed << 16) + epoch)
        yield


def generator_states(device: torch.device) -> list[Tensor]:
    """States of torch's global generators, of the CPU and of `device`."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_generators(states: list[Tensor], device: torch.device) -> None:
    """Put torch's global generators into the states of `generator_states`; none are left as they are."""
    if states:
        torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
