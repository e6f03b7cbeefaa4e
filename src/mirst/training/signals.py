"""Signals that wait until a training has saved what it holds."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def signals_held(hold: bool) -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM are only noted in the block, and raised again at its end, as they would have been.

    Gives a function that says whether there was one. Nothing is held outside the main thread, which alone
    hears signals, nor what is ignored.
    """
    noted: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    held = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {n: signal.signal(n, lambda number, _: noted.append(number)) for n in held} if hold and main else {}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if noted:
            signal.raise_signal(noted[0])
