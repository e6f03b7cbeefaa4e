"""The progress of an evaluation."""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """Number of images that one attack or corruption has processed.

    >>> Progress("pgd", eps=5 / 255, done=8, images=64).done
    8
    """

    what: str
    """Name of the attack or corruption, "none" without one."""
    eps: float
    """Of the attack, in units of the [0, 1] pixel range; 0 without one."""
    done: int
    images: int | None = None
    """How many it will process; `None`: not known."""


OnProgress = Callable[[Progress], object]


def no_progress(_: Progress) -> None:
    """An `OnProgress` that does nothing."""
