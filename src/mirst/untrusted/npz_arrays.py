"""Arrays of npz files: no pickles, and no more bytes than the file can justify."""

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mirst.errors import MirstError

MAX_BYTES = 8 * 2**30
SMALL, MAX_RATIO = 2**28, 50
"""An array of more than `SMALL` bytes must have at least one compressed byte for every `MAX_RATIO` of its own."""


def read_npz_array(path: Path, key: str) -> NDArray[Any]:
    """One numeric array of an npz file.

    Raises:
        MirstError: not an npz file, no array of that name, one that needs unpickling, or one too large to be safe.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
            size, packed = archive.getinfo(f"{key}.npy").file_size, archive.getinfo(f"{key}.npy").compress_size
            declared = _declared_bytes(member)
        most = min(MAX_BYTES, max(SMALL, MAX_RATIO * packed))
        if max(size, declared) > most or declared > size:
            raise MirstError(
                f"{path}: {key} declares {declared} bytes and contains {size}; at most {most} bytes are accepted"
            )
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[key])
    except KeyError as error:
        raise MirstError(f"{path} has no array {key}; MedMNIST files have train_images and so on") from error
    except MirstError:
        raise
    except Exception as error:
        raise MirstError(f"cannot read {path} as an npz file ({error})") from error


def _declared_bytes(member: IO[bytes]) -> int:
    """Bytes of the array according to its header, which may declare any amount."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.kind not in "biuf" or 0 in shape:
        raise ValueError(f"it contains {dtype} {shape}, which are not numbers")
    return math.prod(shape) * dtype.itemsize
