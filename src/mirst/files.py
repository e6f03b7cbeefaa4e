"""Files and folders that are written completely or not at all, and spreadsheet-safe CSV files."""

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
"""The start of a formula: the start of a cell, which in some countries is after a semicolon."""
_DISARMED = re.compile(r"(?<![^;\t\r\n])'(?=[=+\-@＝＋－＠])|^'(?=[\t\r])")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; it becomes `path` when the block ends without an error.

    Raises:
        MirstError: the folder or file cannot be written.
    """
    target = Path(path)
    if not target.name:
        raise MirstError(f"cannot write {target}; give the path of a file")
    partial = _partial(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        raise MirstError(f"cannot write {target} ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # nothing was written
            partial.unlink(missing_ok=True)


def require_target(path: str | Path) -> None:
    """Check that a file can be written to `path`, before its content is computed.

    Raises:
        MirstError: it is a folder, or its folder cannot be created or written.
    """
    target = Path(path)
    if target.is_dir():
        raise MirstError(f"cannot write {target}, because it is a folder; give the path of a file")
    place = next((folder for folder in target.absolute().parents if folder.exists()), None)
    if place is None or not place.is_dir():
        raise MirstError(f"cannot write {target}, because {place} is not a folder; give another path")
    if not os.access(place, os.W_OK):
        raise MirstError(f"cannot write {target}, because {place} is write-protected; give another path")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` to fill; it becomes `path` when the block ends without an error.

    Raises:
        MirstError: `path` exists already or cannot be written.
    """
    target = Path(path)
    require_new(target)
    try:
        with atomic_folder(target) as partial:
            yield partial
    except OSError as error:
        raise MirstError(f"cannot write {target} ({error.strerror or error})") from error


def require_new(path: Path) -> None:
    """Raise `MirstError` if there is a file or folder at `path`."""
    if path.exists():
        raise MirstError(f"{path} exists; give a new folder with --out, or remove {path}")


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target` to fill; it becomes `target` when the block ends without an error.

    Raises:
        OSError: it cannot be written, or `target` is there already and not empty.
    """
    partial = _partial(target)
    try:
        partial.mkdir(parents=True)
        yield partial
        with suppress(OSError):  # it is not empty, or not there
            target.rmdir()  # Windows would not replace it
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(target: Path) -> Path:
    """The temporary name beside `target`, different for each process."""
    return target.with_name(f".{target.name}.{os.getpid()}.partial")


def first_bytes(path: str | Path, count: int) -> bytes:
    """At most `count` bytes from the start of a regular file; none of any other file.

    Raises:
        OSError: the file cannot be read.
    """
    if not Path(path).is_file():
        return b""
    with Path(path).open("rb") as file:
        return file.read(count)


def cache_folder() -> Path:
    """`$MIRST_CACHE`, else `mirst` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MIRST_CACHE") or Path(home) / "mirst")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, completely or not at all."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_csv(path: str | Path, table: "pd.DataFrame") -> None:
    """Write `table` to `path`, completely or not at all, with unrounded numbers and `harmless` texts."""
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
    """A text that a spreadsheet would interpret as a formula gets an apostrophe; anything else is unchanged.

    Numbers are unchanged. Applying it twice equals applying it once.

    >>> harmless("=1+1"), harmless("-0.5"), harmless("benign")
    ("'=1+1", '-0.5', 'benign')
    """
    if not isinstance(cell, str) or not _FORMULA.search(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return _FORMULA.sub("'", cell)
    return cell


def as_named(cell: str) -> str:
    """The original of a text that `harmless` has changed."""
    return _DISARMED.sub("", cell)
