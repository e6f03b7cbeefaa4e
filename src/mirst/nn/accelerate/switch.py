"""The switch for all optimizations. They change results by no more than float rounding."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_optimized: ContextVar[bool] = ContextVar("optimized", default=True)


def is_optimized() -> bool:
    """Whether optimizations are on. They are, outside of `reference_mode`.

    >>> is_optimized()
    True
    """
    return _optimized.get()


@contextmanager
def reference_mode(enabled: bool = True) -> Iterator[None]:
    """Inside the block no optimization runs, only the reference code that each of them is tested against.

    Args:
        enabled: `False` turns the optimizations on inside the block.

    >>> with reference_mode():
    ...     is_optimized()
    False
    """
    token = _optimized.set(not enabled)
    try:
        yield
    finally:
        _optimized.reset(token)
