"""Image files: allowed formats, bounded sides and bounded metadata, checked before pixels are decoded."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mirst.errors import MirstError
from mirst.untrusted.tiff_layout import tags_of, unread

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
"""By content, not by suffix. Pillow supports more formats; for EPS it would start Ghostscript."""
MAX_SIDE = 2**14
"""A letterboxed strip needs memory for the square of its length."""
MAX_EXIF = 2**16
"""Bytes, as in one segment of a JPEG file."""
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    MemoryError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises on damaged files."""


@contextmanager
def open_picture(path: Path, max_side: int = MAX_SIDE) -> Iterator[Image.Image]:
    """The image with its header read and its pixels not decoded; the first one if the file has several.

    Errors of Pillow inside the block become a `MirstError` too.

    Raises:
        MirstError: no file, not an image of `FORMATS`, a TIFF of another layout, a damaged image, or one too large
            to be safe.
    """
    try:
        with warnings.catch_warnings(), _Metered(path) as file:
            warnings.simplefilter("ignore", UserWarning)  # damaged metadata do not matter
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                require_sides(path, image.size, max_side)
                _drop_large_exif(image)
                yield image
    except MirstError:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except UNREADABLE as error:
        raise MirstError(f"cannot read {path} as an image ({error}); repair or remove it") from error


class _Metered(io.BufferedReader):
    """A file with a limit on the bytes that are read in total, and on its EXIF segments, which Pillow joins.

    All tags of a TIFF, or of EXIF data, may refer to the same bytes, and Pillow keeps a copy for each tag.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(str(path)))
        self.left, self.exif_left = 8 * path.stat().st_size + 2**16, MAX_EXIF

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.left -= len(content)
        if content.startswith(b"Exif\0\0"):
            self.exif_left -= len(content)
        if min(self.left, self.exif_left) < 0:
            raise OSError("its tags are far larger than the file")
        return content


def _unidentified(path: Path) -> MirstError:
    try:
        with warnings.catch_warnings(), _Metered(path) as file:
            warnings.simplefilter("error", UserWarning)  # damaged tags, which Pillow skips
            if tags := tags_of(file):
                return unread(path, tags)
    except (*UNREADABLE, UserWarning):
        pass
    return MirstError(f"{path} is not a valid file of {', '.join(FORMATS)}; repair or remove it")


def require_sides(path: Path, size: tuple[int, int], max_side: int = MAX_SIDE) -> None:
    """Raise `MirstError` unless width and height are small enough."""
    width, height = size
    if max(size) > max_side:
        raise MirstError(f"{path} is {width} x {height}; images with sides of at most {max_side} pixels are accepted")


def _drop_large_exif(image: Image.Image) -> None:
    for key in ("exif", "Raw profile type exif"):
        if len(image.info.get(key, "")) > MAX_EXIF:
            del image.info[key]
