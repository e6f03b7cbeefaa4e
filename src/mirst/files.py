"""Files that are whole or not there."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirst.errors import MirstError

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"(?<![^;\t\r\n])(?=[=+\-@＝＋－＠])|^(?=[\t\r])")
"""Where a spreadsheet begins to compute: at a cell's beginning, which in some countries is after a semicolon."""
_DISARMED = re.compile(r"(?<![^;\t\r\n])'(?=[=+\-@＝＋－＠])|^'(?=[\t\r])")

_LFS = b"version https://git-lfs.github.com/spec/"


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; it becomes `path` when the block ends well.

    Raises:
        MirstError: the folder or file cannot be written.
    """
    target = Path(path)
    if not target.name:
        raise MirstError(f"cannot write {target}; name a file")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        raise MirstError(f"cannot write {target} ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # where nothing could be written there is nothing to remove
            partial.unlink(missing_ok=True)


def require_target(path: str | Path) -> None:
    """Whether a file can be written to `path`, looked at before the work that it is to hold.

    Raises:
        MirstError: it is a folder, or its folder cannot be made or written.
    """
    target = Path(path)
    if target.is_dir():
        raise MirstError(f"cannot write {target}, because it is a folder; name a file")
    place = next((folder for folder in target.absolute().parents if folder.exists()), None)
    if place is None or not place.is_dir():
        raise MirstError(f"cannot write {target}, because {place} is not a folder; name another file")
    if not os.access(place, os.W_OK):
        raise MirstError(f"cannot write {target}, because {place} is write-protected; name another file")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` to fill; it becomes `path` when the block ends well.

    Raises:
        MirstError: `path` is there already or cannot be written.
    """
    target = Path(path)
    if target.exists():
        raise MirstError(f"{target} exists; name a new folder with --out or remove it")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(target)
    except OSError as error:
        raise MirstError(f"cannot write {target} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def first_bytes(path: str | Path, count: int) -> bytes:
    """At most `count` bytes from the beginning of a regular file; of anything else none.

    Raises:
        OSError: the file cannot be read.
    """
    if not Path(path).is_file():
        return b""
    with Path(path).open("rb") as file:
        return file.read(count)


def is_lfs_pointer(path: str | Path) -> bool:
    """Whether Git LFS has left a pointer in the place of the file."""
    try:
        return first_bytes(path, len(_LFS)) == _LFS
    except OSError:
        return False


def require_content(path: str | Path) -> None:
    """Raises `MirstError` for a Git LFS pointer, and says how to get the file itself."""
    if is_lfs_pointer(path):
        raise MirstError(f"{path} is a Git LFS pointer, not the file; run git lfs pull to get it")


def cache_folder() -> Path:
    """`$MIRST_CACHE`, else `mirst` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MIRST_CACHE") or Path(home) / "mirst")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as a whole."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_csv(path: str | Path, table: "pd.DataFrame") -> None:
    """Write `table` to `path` as a whole, numbers unrounded, texts `harmless`."""
    safe = harmless_table(table)
    with atomic(path) as partial:
        safe.to_csv(partial, index=False)


def harmless_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """`table` with `harmless` texts and column names."""
    table = table.rename(columns=harmless)
    for name, column in table.items():
        if column.dtype.kind == "O":
            cells = [harmless(cell) for cell in column]
            if any(cell is not before for cell, before in zip(cells, column, strict=True)):
                table[name] = cells
    return table


def harmless(cell: Any) -> Any:
    """A text that a spreadsheet would take for a formula, an apostrophe before it; anything else as it is.

    A second time it changes nothing more. Plain numbers stay as they are.
    """
    if not isinstance(cell, str) or not _FORMULA.search(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return _FORMULA.sub("'", cell)
    return cell


def as_named(cell: str) -> str:
    """The text that `harmless` changed."""
    return _DISARMED.sub("", cell)
