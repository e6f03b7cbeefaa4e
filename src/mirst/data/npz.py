"""Arrays in npz files, read without unpickling and within bounds."""

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirst.errors import MirstError

MAX_BYTES = 8 * 2**30


@lru_cache(maxsize=8)
def npz_array(path: Path, key: str) -> NDArray[Any]:
    """One array of the file, kept in memory for the next image of it.

    Raises:
        MirstError: no npz, no such array, one that needs unpickling, or one too large to be safe.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(f"{key}.npy").file_size
        if size > MAX_BYTES:
            raise MirstError(f"{path}: {key} unpacks to {size} bytes, more than the {MAX_BYTES} that are read")
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[key])
    except KeyError as error:
        raise MirstError(f"{path} has no array {key}; MedMNIST files have train_images and so on") from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise MirstError(f"cannot read {path} as an npz file ({error})") from error
