"""The kind of a file, by its first bytes."""

import re
from enum import Enum, auto
from pathlib import Path

from mirst.files import first_bytes

HEAD = 512
"""Bytes that are read of a file."""


class Kind(Enum):
    PICTURE = auto()
    DICOM = auto()
    NPZ = auto()
    NPY = auto()
    OTHER = auto()


SUFFIXES = {
    Kind.PICTURE: (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff"),
        *(".gif", ".webp", ".pbm", ".pgm", ".ppm", ".pnm"),
    ),
    Kind.DICOM: (".dcm", ".dicom", ".ima"),
    Kind.NPZ: (".npz",),
    Kind.NPY: (".npy",),
}
"""Used only for files whose content is of no known kind."""
_CLAIMS = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
_PICTURE = re.compile(
    rb"\x89PNG\r\n\x1a\n"
    rb"|\xff\xd8\xff"  # JPEG
    rb"|GIF8[79]a"
    rb"|RIFF....WEBP"
    rb"|II[*+]\0|MM\0[*+]"  # TIFF and BigTIFF
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"  # BMP, its second header of a known length
    rb"|P[1-6f](?:\s|\#[^\n]*\n)+\d",  # PNM
    re.DOTALL,
)
_DICOM_FOLDER = b"\x02\0\x02\0UI\x14\x001.2.840.10008.1.3.10"
"""The SOP class of a DICOMDIR, which lists files and contains no image."""


def file_kind(path: Path) -> Kind:
    """The kind of the file at `path`, by at most its first `HEAD` bytes.

    A file of unknown content has the kind of its suffix, so that a damaged image is reported as unreadable.
    """
    try:
        head = first_bytes(path, HEAD)
    except OSError:
        head = b""
    if head[128:132] == b"DICM":  # first, since the bytes before may be those of a TIFF
        return Kind.OTHER if _DICOM_FOLDER in head else Kind.DICOM
    if _PICTURE.match(head):
        return Kind.PICTURE
    if head.startswith(b"PK\x03\x04"):
        return Kind.NPZ if path.suffix.lower() == ".npz" else Kind.OTHER
    if head.startswith(b"\x93NUMPY"):
        return Kind.NPY
    return _CLAIMS.get(path.suffix.lower(), Kind.OTHER)


def is_image(path: Path) -> bool:
    """Whether the file is an image of another format or a DICOM file by its content or suffix."""
    return not {file_kind(path), _CLAIMS.get(path.suffix.lower())}.isdisjoint((Kind.PICTURE, Kind.DICOM))
