"""Safetensors files: the size of the header is bounded before it is parsed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from mirst.files import first_bytes
from mirst.untrusted.lfs_pointers import require_content

COUNTER = "num_batches_tracked"
"""A batch norm's count of batches. Older files lack it, and it does not change outputs."""
MAX_HEADER = 2**22
"""Bytes. The header of a ResNet-50 has 32 thousand; parsing needs about thirteen times as much memory."""


def is_tensors(path: Path) -> bool:
    """Whether the file is a safetensors file by its content or suffix.

    Raises:
        OSError: it cannot be read.
    """
    return path.suffix.lower() == ".safetensors" or first_bytes(path, 9)[8:] == b"{"


@contextmanager
def open_tensors(path: str | Path) -> Iterator[Any]:
    """The file, opened by `safetensors.safe_open`.

    Raises:
        OSError: no such file, or not a regular file.
        ValueError: a header that is too large, or a Git LFS pointer.
        SafetensorError: a damaged file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError("no such file")
    require_content(path)
    length = int.from_bytes(first_bytes(path, 8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"its header declares {length} bytes, more than the {MAX_HEADER} that are accepted")
    with safe_open(path, "pt") as tensors:
        yield tensors
