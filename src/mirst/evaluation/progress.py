"""How far an evaluation has come."""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """So many images have been through one attack or corruption."""

    what: str
    """Name of the attack or corruption, "none" without one."""
    eps: float
    """Of the attack, in units of the [0, 1] pixel range; 0 without one."""
    done: int
    images: int | None = None
    """How many go through it; `None`: not known."""


OnProgress = Callable[[Progress], object]


def no_progress(_: Progress) -> None:
    """A `OnProgress` that does nothing."""
