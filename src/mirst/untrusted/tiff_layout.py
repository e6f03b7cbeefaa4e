"""TIFF files: the layout of their values, and the error for layouts that are not supported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from mirst.errors import MirstError

WIDTH, LENGTH, BITS, PHOTOMETRIC, SAMPLES, PLANAR, EXTRA, SAMPLE_FORMAT = 256, 257, 258, 262, 277, 284, 338, 339
"""Tags (TIFF 6.0)."""
COLOUR = {
    0: "gray with white as 0",
    1: "gray",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "ICC LAB",
}
"""By photometric interpretation."""
NUMBERS = {2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}
"""By sample format; 1 are unsigned integers."""


def tags_of(file: BinaryIO) -> Mapping[int, Any]:
    """The tags of the first page; none if they do not state a size.

    Raises:
        Exception: as Pillow, for a file that is not a TIFF.
    """
    head = file.read(8)
    is_big = b"+" in head[2:4]  # 43, BigTIFF
    tags = ImageFileDirectory_v2(head + file.read(8) if is_big else head)
    file.seek(tags.next)
    tags.load(file)
    sized = all(isinstance(tags.get(tag), int) for tag in (WIDTH, LENGTH))
    return tags if sized else {}


def in_planes(tags: Mapping[int, Any]) -> bool:
    """Whether each channel is stored separately."""
    return tags.get(PLANAR) == 2 and tags.get(SAMPLES, 1) > 1


def bits_of(tags: Mapping[int, Any]) -> tuple[int, ...]:
    """Bits of each channel; one number may stand for all of them."""
    return _several(tags.get(BITS, 1))


def unread(path: Path, tags: Mapping[int, Any]) -> MirstError:
    """The error for a layout that is not supported."""
    photometric = tags.get(PHOTOMETRIC, 0)
    colour = COLOUR.get(photometric, f"photometric interpretation {photometric}")
    bits = "/".join(str(count) for count in dict.fromkeys(bits_of(tags)))
    numbers = NUMBERS.get(_several(tags.get(SAMPLE_FORMAT, 1))[0], "")
    order = "big-endian " if getattr(tags, "prefix", b"") == b"MM" and max(bits_of(tags)) > 8 else ""
    extra = len(_several(tags.get(EXTRA, ())))
    more = f" with {extra} extra channel{'s' if extra > 1 else ''}" if extra else ""
    planes, mend = (" in separate planes", " in one plane") if in_planes(tags) else ("", "")
    return MirstError(
        f"{path} is a TIFF of {order}{bits}-bit {numbers}{colour}{more}{planes}, which is not read; "
        f"save it as 8- or 16-bit gray or RGB{mend}"
    )


def _several(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
