"""One process at a time writes into a results folder; reading never waits."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from mirst.errors import MirstError

LOCK = ".lock"
PATIENCE = 0.5
"""Seconds for which a lock is tried: whoever asks for its holder has it for a moment."""


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
    with _lock_file(folder) as file:
        yield
        file.truncate(0)


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
    with suppress(OSError), (folder / LOCK).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Holder(**json.loads(file.read() or json.dumps({"pid": 0, "host": "?", "since": "just now"})))
    return None


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a", encoding="utf-8")
        try:
            _take(file, folder)
            file.truncate(0)
            own = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
            file.write(json.dumps(asdict(own)))
            file.flush()
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise MirstError(f"cannot write into {folder} ({error.strerror})") from error
    return file


def _take(file: IO[str], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            there = holder(folder)
            if there is not None and time.monotonic() > deadline:
                raise MirstError(_in_use(folder, there)) from None
            time.sleep(0.02)
        else:
            return


def _in_use(folder: Path, there: Holder) -> str:
    return f"{folder} is in use by {there}; wait for it or stop it"
