"""Arrays in npz files, read without unpickling and within bounds."""

import math
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mirst.data.record import Stamp, file_stamp
from mirst.errors import MirstError

MAX_BYTES = 8 * 2**30
SMALL, MAX_RATIO = 2**28, 50
"""Arrays of more bytes than the first must take at least one byte of the file for so many of theirs."""


def npz_array(path: Path, key: str) -> NDArray[Any]:
    """One array of the file, kept in memory for the next image of it.

    Raises:
        MirstError: no npz, no such array, one that needs unpickling, or one too large to be safe.
    """
    return _read(path, file_stamp(path), key)


@lru_cache(maxsize=8)
def _read(path: Path, _stamp: Stamp, key: str) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
            size, packed = archive.getinfo(f"{key}.npy").file_size, archive.getinfo(f"{key}.npy").compress_size
            declared = _declared_bytes(member)
        most = min(MAX_BYTES, max(SMALL, MAX_RATIO * packed))
        if max(size, declared) > most or declared > size:
            raise MirstError(f"{path}: {key} declares {declared} bytes and holds {size}; at most {most} are read of it")
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[key])
    except KeyError as error:
        raise MirstError(f"{path} has no array {key}; MedMNIST files have train_images and so on") from error
    except MirstError:
        raise
    except Exception as error:
        raise MirstError(f"cannot read {path} as an npz file ({error})") from error


def _declared_bytes(member: IO[bytes]) -> int:
    """What the array would take, from its header alone: a damaged one may ask for any amount."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.kind not in "biuf" or 0 in shape:
        raise ValueError(f"it holds {dtype} {shape}, no numbers")
    return math.prod(shape) * dtype.itemsize
