"""One switch for every speed-up that changes no result beyond float rounding."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_fast: ContextVar[bool] = ContextVar("fast", default=True)


def is_optimized() -> bool:
    """Whether speed-ups are on, as they are outside of `reference_mode`."""
    return _fast.get()


@contextmanager
def reference_mode(plain: bool = True) -> Iterator[None]:
    """Inside, everything is computed in the plain way that the speed-ups are held against; or not, if not `plain`."""
    token = _fast.set(not plain)
    try:
        yield
    finally:
        _fast.reset(token)
