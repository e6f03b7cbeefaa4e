"""Prepared images on disk: decoded once, then memory-mapped."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirst.data.images import Pixels, load_image
from mirst.data.record import ImageFile
from mirst.errors import MirstError
from mirst.files import atomic_folder, cache_folder

VERSION = 4
"""Version of the preparation. A new one invalidates all cached images."""


@dataclass(frozen=True)
class PreparedImages:
    """The letterboxed images of a data set in a folder of the cache. Pickled as the path only.

    >>> from mirst.data import read_dataset, write_phantoms
    >>> write_phantoms(Path("lesions"), 2)
    >>> prepare_images([record.file for record in read_dataset("lesions")], size=32).pixels.shape
    (4, 1, 32, 32)
    """

    folder: Path

    @cached_property
    def pixels(self) -> Pixels:
        """`(N, channels, size, size)`, 0 to 255, memory-mapped."""
        pixels: Pixels = np.load(self.folder / "pixels.npy", mmap_mode="r")
        return pixels

    @cached_property
    def features(self) -> NDArray[np.float64] | None:
        """`(N, 2)`, `Box.features` of each image, NaN without a box; `None` for whole images."""
        path = self.folder / "features.npy"
        return np.load(path) if path.exists() else None

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        object.__setattr__(self, "folder", folder)


@dataclass(frozen=True)
class CarriedImages:
    """Prepared images that are pickled with their content, for machines without the cache.

    >>> CarriedImages(np.zeros((4, 1, 32, 32), np.uint8)).pixels.shape
    (4, 1, 32, 32)
    """

    pixels: Pixels
    """`(N, channels, size, size)`, 0 to 255."""
    features: NDArray[np.float64] | None = None
    """As in `PreparedImages`."""


def prepare_images(files: Sequence[ImageFile], size: int, channels: int = 1) -> PreparedImages:
    """Decode and letterbox the images, unless the cache contains them.

    The cache is keyed by the content of the files and by the settings, never by name or date.

    Raises:
        MirstError: a file cannot be read as an image, or the cache cannot be written.
    """
    prepared = PreparedImages(cache_folder() / "prepared" / content_key(files, VERSION, size, channels))
    if not prepared.folder.is_dir():
        _fill(prepared.folder, files, size, channels)
    return prepared


def content_key(files: Sequence[ImageFile], *settings: int) -> str:
    """A cache key for results computed from the content of `files` with `settings`.

    Raises:
        MirstError: a file cannot be read.
    """
    contents: dict[Path, str] = {}
    for path, *_ in files:
        if path not in contents:
            contents[path] = _digest(path)
    everything = [*settings, [(contents[path], *rest) for path, *rest in files]]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MirstError(f"cannot read {path} ({error.strerror}); repair or remove it") from error


def _fill(folder: Path, files: Sequence[ImageFile], size: int, channels: int) -> None:
    shape = (len(files), channels, size, size)
    try:
        with atomic_folder(folder) as partial:
            pixels = np.lib.format.open_memmap(partial / "pixels.npy", "w+", np.uint8, shape)
            for number, file in enumerate(files):
                pixels[number] = load_image(file, size, channels)
            pixels.flush()
    except OSError as error:
        if not folder.is_dir():  # else another process has written it
            raise MirstError(f"cannot write the cache {folder.parent} ({error.strerror}); set MIRST_CACHE") from error
