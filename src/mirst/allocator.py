"""How the C library of Linux treats memory that tensors have freed."""

import ctypes
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of the options in glibc's `malloc.h`."""
KEPT = 1 << 30
"""Bytes of free memory that the process keeps."""
LARGE = 32 << 20
"""Bytes. Larger blocks are returned when they are freed."""


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensors; elsewhere, do nothing.

    By default glibc returns it to the system when a pass ends, and the next pass gets it back page by page. That took a
    fifth of the time of an attack on a small network. The largest memory that the process needs stays the same.
    It changes the whole process, so mirst calls it in its command line and its workers only, never on import.

    >>> keep_freed_memory()
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, LARGE)
