"""Reproducible random draws on any device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws from [0, 1) with the type and device of `like`. The generator may be on another device.

    >>> uniform((2, 3), torch.zeros(1, dtype=torch.float64), torch.Generator().manual_seed(0)).dtype
    torch.float64
    """
    device = like.device if generator is None else generator.device
    return torch.rand(*shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def uniform_per_image(count: int, low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """One draw from [low, high) for each of `count` images, `(count, 1, 1, 1)`, in float32 on the CPU.

    >>> uniform_per_image(4, -1, 1, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 1, 1, 1])
    """
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Set torch's own generators to `seed`, for models that draw from them; restore them afterwards.

    >>> with seeded(0, torch.device("cpu")):
    ...     first = torch.rand(1)
    >>> with seeded(0, torch.device("cpu")):
    ...     torch.equal(first, torch.rand(1))
    True
    """
    accelerators = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(accelerators, device_type=device.type if accelerators else "cuda"):
        torch.manual_seed(seed)
        yield
