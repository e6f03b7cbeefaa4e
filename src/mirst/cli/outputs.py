"""Checks of the files that a command will write, before it does anything."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mirst.errors import MirstError
from mirst.files import require_target


def require_output(out: Path, suffixes: Iterable[str], inputs: Iterable[Path]) -> None:
    """Require that the file to write is no input of the command, and replaces only a file of the same kind.

    Args:
        suffixes: of the kind that the command writes, such as `.csv`.
        inputs: files and folders that the command reads.

    Raises:
        MirstError: it is an input, an existing file of another kind, a folder, or in a place that cannot be written.
    """
    require_no_input(out, inputs)
    require_target(out)
    kinds = tuple(suffixes)
    if out.exists() and out.suffix.lower() not in kinds:
        raise MirstError(f"{out} exists and is not a {' or '.join(kinds)} file; give another file or remove it")


def require_no_input(out: Path, inputs: Iterable[Path]) -> None:
    """Raise `MirstError` if `out` is one of the files and folders that the command reads."""
    for one in inputs:
        with suppress(OSError):  # what does not exist is not overwritten
            if out.samefile(one):
                raise MirstError(f"{out} is an input of this command and would be overwritten; give another path")
