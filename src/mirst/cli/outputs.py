"""Whether a command may write what it is asked to write, looked at before it works."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mirst.errors import MirstError
from mirst.files import require_target


def require_output(out: Path, suffixes: Iterable[str], inputs: Iterable[Path]) -> None:
    """A file that the command writes is none of its inputs, and replaces only a file of its own kind.

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
        raise MirstError(f"{out} exists and is not a {' or '.join(kinds)} file; name another file or remove it")


def require_no_input(out: Path, inputs: Iterable[Path]) -> None:
    """Raises `MirstError` where `out` is one of the files and folders that the command reads."""
    for one in inputs:
        with suppress(OSError):  # what does not exist is not overwritten
            if out.samefile(one):
                raise MirstError(
                    f"{out} is an input of this command and would be overwritten; name another place to write"
                )
