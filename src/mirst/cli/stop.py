"""What an interrupt or a termination says of a command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which stops work as Ctrl-C does."""


@contextmanager
def stops_in_order(then: str) -> Iterator[None]:
    """Ctrl-C in the block ends the command with exit code 130, SIGTERM with 143, and a sentence that ends in `then`."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.echo(f"Stopped; {then}.", err=True)
        raise typer.Exit(143 if isinstance(stop, _Terminated) else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: Any) -> None:
    raise _Terminated
