"""Arrays of npz files, kept in memory while their images are read one by one."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mirst.data.record import Stamp, file_stamp
from mirst.untrusted.npz_arrays import read_npz_array


def npz_array(path: Path, key: str) -> NDArray[Any]:
    """One array of the file; the last eight stay in memory, until their file changes.

    Raises:
        MirstError: as `read_npz_array`.
    """
    return _read(path, file_stamp(path), key)


@lru_cache(maxsize=8)
def _read(path: Path, _stamp: Stamp, key: str) -> NDArray[Any]:
    return read_npz_array(path, key)
