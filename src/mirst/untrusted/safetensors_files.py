"""Safetensors files of any origin, their headers bounded before anything of them is parsed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from mirst.files import first_bytes
from mirst.untrusted.lfs_pointers import require_content

COUNTER = "num_batches_tracked"
"""Of a batch norm: how many batches it has seen. Older files lack it, and it changes no output."""
MAX_HEADER = 2**22
"""Bytes; the header of a ResNet-50 has 32 thousand, and parsing takes about thirteen times as much memory."""


def is_tensors(path: Path) -> bool:
    """Whether the file is a safetensors file by its content, or claims to be one by its suffix.

    Raises:
        OSError: it cannot be read.
    """
    return path.suffix.lower() == ".safetensors" or first_bytes(path, 9)[8:] == b"{"


@contextmanager
def open_tensors(path: str | Path) -> Iterator[Any]:
    """The file as `safetensors.safe_open` gives it.

    Raises:
        OSError: no such file, or one that is no regular one.
        ValueError: a header that is too large, or a Git LFS pointer.
        SafetensorError: no sound file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError("no such file")
    require_content(path)
    length = int.from_bytes(first_bytes(path, 8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"its header declares {length} bytes, more than the {MAX_HEADER} that are read")
    with safe_open(path, "pt") as tensors:
        yield tensors
