"""Git LFS pointers: small text files that Git leaves where `git lfs pull` was not run."""

from pathlib import Path

from mirst.errors import MirstError
from mirst.files import first_bytes

POINTER = b"version https://git-lfs.github.com/spec/"
"""The first bytes of a pointer."""


def require_content(path: str | Path) -> None:
    """Raise `MirstError` if the file is a Git LFS pointer. A file that cannot be read is left to its reader."""
    try:
        is_pointer = first_bytes(path, len(POINTER)) == POINTER
    except OSError:
        return
    if is_pointer:
        raise MirstError(f"{path} is a Git LFS pointer, not the file; run git lfs pull to get it")
