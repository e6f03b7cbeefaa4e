"""Prepared images on disk: decoded once, then memory-mapped."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirst.data.box import Box
from mirst.data.images import Pixels, decode, load_image
from mirst.data.lesion import LesionCrop
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
        with _new_folder(prepared.folder) as partial:
            _fill(partial, len(files), (load_image(file, size, channels) for file in files))
    return prepared


def prepare_lesions(
    files: Sequence[ImageFile], boxes: Sequence[Box | None], size: int, margin: float, channels: int = 1
) -> PreparedImages:
    """Decode and crop the images around their boxes with surroundings, unless the cache contains them.

    `pixels` are those of `LesionCrop`, so they have about twice the side of the crop.

    Raises:
        MirstError: as `prepare_images`, or a box outside of its image, with the name of the file.
    """
    key = content_key(files, VERSION, size, channels, margin, list(boxes))
    prepared = PreparedImages(cache_folder() / "prepared" / key)
    if not prepared.folder.is_dir():
        features = np.zeros((len(files), 2))

        def crops() -> Iterator[Pixels]:
            for number, (file, box) in enumerate(zip(files, boxes, strict=True)):
                crop = lesion_crop(file, box, size, margin, channels)
                features[number] = crop.features
                yield crop.surroundings

        with _new_folder(prepared.folder) as partial:
            _fill(partial, len(files), crops())
            np.save(partial / "features.npy", features)
    return prepared


def lesion_crop(file: ImageFile, box: Box | None, size: int, margin: float, channels: int = 1) -> LesionCrop:
    """The crop of an image file.

    Raises:
        MirstError: a file that cannot be read, or a box outside of the image.
    """
    image = decode(file, channels)
    try:
        return LesionCrop.of(image, box, size, margin)
    except MirstError as error:
        raise MirstError(f"{file.path}: {error}") from error


def content_key(files: Sequence[ImageFile], *settings: object) -> str:
    """A cache key for results computed from the content of `files` with `settings`.

    Raises:
        MirstError: a file cannot be read.
    """
    contents = content_digests([file.path for file in files])
    everything = [*settings, [(contents[path], *rest) for path, *rest in files]]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:32]


def content_digests(paths: Sequence[Path]) -> dict[Path, str]:
    """SHA-256 of the content of each file.

    Raises:
        MirstError: a file cannot be read.
    """
    return {path: _digest(path) for path in dict.fromkeys(paths)}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MirstError(f"cannot read {path} ({error.strerror}); repair or remove it") from error


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    try:
        with atomic_folder(folder) as partial:
            yield partial
    except OSError as error:
        if not folder.is_dir():  # else another process has written it
            raise MirstError(f"cannot write the cache {folder.parent} ({error.strerror}); set MIRST_CACHE") from error


def _fill(folder: Path, count: int, images: Iterator[Pixels]) -> None:
    """Write `count` images, one at a time."""
    first = next(images)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (count, *first.shape))
    for number, image in enumerate(chain([first], images)):
        pixels[number] = image
    pixels.flush()
