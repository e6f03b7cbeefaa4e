"""SIGINT (Ctrl-C) and SIGTERM end every command with one sentence, whenever they arrive."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from mirst.cli.exit_codes import ExitCode
from mirst.errors import MirstError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DELAY = 0.01
"""Seconds until an interrupt that Python lost is raised again."""
RESUMES = "run the same command again to resume"

Handler = Callable[[int, Any], Any] | int | None


class Stopped(Exception):
    """A signal stopped a command that the same command resumes; the message says so."""


@contextmanager
def stoppable() -> Iterator[None]:
    """In the block SIGINT and SIGTERM raise KeyboardInterrupt; the process then ends with exit code 130 or 143.

    An import that is interrupted may raise another exception, so whatever the block raises after a signal is taken
    for its consequence, except a `MirstError` and an exit code of failure of the command itself. Where Python swallows
    the KeyboardInterrupt, as in `__del__`, it is raised again a moment later; where other code does, the process still
    ends with 130 or 143 after the block. Ignored signals stay ignored.
    """
    received: list[int] = []

    def stop(number: int, _: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    _handle(dict.fromkeys(mine, stop))
    try:
        with _raised_again(stop):
            yield
            if received:
                raise KeyboardInterrupt
    except BaseException as error:
        if not received or not _follows_a_signal(error):
            _handle(before)
            raise
        _handle(dict.fromkeys(mine, signal.SIG_IGN))  # while the interpreter shuts down
        with suppress(OSError):
            print(error if isinstance(error, Stopped) else "Stopped.", file=sys.stderr, flush=True)
        sys.exit(ExitCode(128 + received[0]))
    _handle(before)


@contextmanager
def stops_in_order(then: str) -> Iterator[None]:
    """A KeyboardInterrupt in the block becomes the sentence "Stopped; `then`."; also a decorator."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"Stopped; {then}.") from None


@contextmanager
def _raised_again(stop: Callable[[int, Any], Any]) -> Iterator[None]:
    """In the block a KeyboardInterrupt that Python cannot raise where it arises calls `stop` again a moment later.

    Windows has no such timer; there a second interrupt is needed.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return
    unraisable = sys.unraisablehook

    def hook(lost: Any) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, DELAY)
        else:
            unraisable(lost)

    before = signal.signal(signal.SIGALRM, stop)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = unraisable


def _follows_a_signal(error: BaseException) -> bool:
    if isinstance(error, SystemExit):
        return error.code in (ExitCode.done, None, ExitCode.interrupted)  # typer makes the last of a KeyboardInterrupt
    return not isinstance(error, MirstError)


def _handle(handlers: Mapping[signal.Signals, Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
