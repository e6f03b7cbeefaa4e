"""One process at a time writes into a results folder; reading never waits."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from mirst.errors import MirstError

LOCK, HOLDER = ".lock", ".lock.json"
"""What the operating system locks, which Windows then lets nobody read; and who holds it."""
PATIENCE, MOMENT = 0.5, 0.05
"""Seconds for which a lock is tried to hold it, and to see whether it is held: whoever looks has it for a moment."""


@dataclass(frozen=True)
class Holder:
    """Who writes into a results folder."""

    pid: int
    host: str
    since: str
    """ISO 8601, UTC."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made if need be, until the end of the block.

    The operating system keeps the lock, so that a process that was killed leaves none behind.

    Raises:
        MirstError: another process holds it, or it cannot be written.
    """
    lock = _taken(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that someone reads
            (folder / HOLDER).unlink()
        lock.release()


def require_free(folder: Path) -> None:
    """Before long work that ends in `locked`.

    Raises:
        MirstError: another process holds the folder.
    """
    there = holder(folder)
    if there is not None:
        raise MirstError(_in_use(folder, there))


def holder(folder: Path) -> Holder | None:
    """Who holds `folder` now; `None`: nobody."""
    if not (folder / LOCK).exists():
        return None
    try:
        with FileLock(folder / LOCK, timeout=MOMENT, poll_interval=MOMENT / 5):
            return None
    except Timeout:
        return _recorded(folder)
    except OSError:  # not writable
        return None


def _taken(folder: Path) -> BaseFileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=PATIENCE, poll_interval=0.02)
        try:
            lock.acquire()
            own = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
            (folder / HOLDER).write_text(json.dumps(asdict(own)), encoding="utf-8")
        except BaseException:
            lock.release()
            raise
    except Timeout:
        raise MirstError(_in_use(folder, _recorded(folder))) from None
    except OSError as error:
        raise MirstError(f"cannot write into {folder} ({error.strerror})") from error
    return lock


def _recorded(folder: Path) -> Holder:
    with suppress(OSError, ValueError):
        return Holder(**json.loads((folder / HOLDER).read_text(encoding="utf-8")))
    return Holder(0, "?", "just now")


def _in_use(folder: Path, there: Holder) -> str:
    return f"{folder} is in use by {there}; wait for it or stop it"
