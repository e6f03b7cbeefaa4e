"""Work in threads, one for each core, and its progress."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

In = TypeVar("In")
Out = TypeVar("Out")


OnStage = Callable[[str, int, int], object]
"""Gets the name of a stage of long work, how many of its items are done, and how many there are."""


def available_cores() -> int:
    """How many cores this process may use; all of the machine where the system does not say.

    >>> available_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def no_stage(stage: str, done: int, items: int) -> None:
    """An `OnStage` that does nothing."""


def in_threads(
    function: Callable[[In], Out], items: Sequence[In], stage: str = "", on_stage: OnStage = no_stage
) -> list[Out]:
    """Apply `function` in threads. The matrix products of one item are too small for several."""
    found = []
    with threadpool_limits(1), ThreadPoolExecutor(available_cores()) as pool:
        for done, one in enumerate(pool.map(function, items), start=1):
            found.append(one)
            on_stage(stage, done, len(items))
    return found
