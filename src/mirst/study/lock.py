"""One run at a time in a results folder."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mirst.errors import MirstError

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, no other process runs in `folder`. The system lets go of the lock when its holder ends, however it does.

    Raises:
        MirstError: another process runs there, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / NAME).open("a+", encoding="utf-8")
    except OSError as error:
        raise MirstError(f"cannot write {folder} ({error.strerror}); name another folder with --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MirstError(f"{folder} is in use by {_told(file.name)}; wait for it or stop it") from error
        file.truncate(0)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": began}))
        file.flush()
        yield


def holder(folder: Path) -> str | None:
    """Who runs in `folder` now, in words."""
    try:
        with (folder / NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _told(folder / NAME)
    return None


def _told(path: Path | str) -> str:
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        return "another process"
    return f"process {told['pid']} on {told['host']} since {told['since']}"
