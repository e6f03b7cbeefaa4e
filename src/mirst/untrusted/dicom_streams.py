"""Pixel data of DICOM files: stored bits, decoders, and frames whose size contradicts the header."""

import struct
from pathlib import Path
from typing import Any

from mirst.errors import MirstError

EXTRA = "mirst[dicom-jpeg]"
FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""JPEG and JPEG-LS markers that begin the header of a frame (ISO/IEC 10918-1, B.1.1.3; 14495-1, C.1.1)."""
CODESTREAM, SIZE = b"\xff\x4f", 0xFF51
"""JPEG 2000: its first marker, and the one of its size, which is next (ISO/IEC 15444-1, A.5.1)."""


def plugin(path: Path, dataset: Any) -> str:
    """The pydicom plugin to decode with; empty leaves the choice to pydicom.

    JPEG of 8 bits is decoded by Pillow, or its pixels would depend on the installed packages.

    Raises:
        MirstError: a transfer syntax that is not read, or only with `EXTRA`.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise MirstError(
            f"{path} is compressed as {syntax.name}, which is not read; convert it to an uncompressed transfer syntax"
        ) from error
    if not decoder.is_available:
        raise missing_extra(path, dataset)
    return "pillow" if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit) and dataset.BitsStored == 8 else ""


def extra_could_read(dataset: Any) -> bool:
    """Whether the transfer syntax is one of the extra's, and the extra is not installed."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    installed = get_decoder(syntax).available_plugins
    return bool(syntax.is_encapsulated) and syntax != RLELossless and "pylibjpeg" not in installed


def missing_extra(path: Path, dataset: Any) -> MirstError:
    return MirstError(
        f"{path} is compressed as {dataset.file_meta.TransferSyntaxUID.name}; pip install '{EXTRA}' to read it"
    )


def bit_shift(dataset: Any) -> int:
    """How many unused bits lie below the stored ones (PS3.5, 8.1.1). pydicom ignores them.

    Raises:
        ValueError: the stored bits do not fit below the highest one, or the file is compressed and its codestream
            does not say where they are.
    """
    from pydicom.uid import RLELossless

    stored, allocated = int(dataset.get("BitsStored") or 0), int(dataset.get("BitsAllocated") or 0)
    high = dataset.get("HighBit")
    if high is None or "PixelData" not in dataset or not 0 < stored < allocated or int(high) == stored - 1:
        return 0
    syntax = dataset.file_meta.TransferSyntaxUID
    if not stored <= int(high) < allocated or (syntax.is_encapsulated and syntax != RLELossless):
        raise ValueError(
            f"its HighBit is {high}, where {stored} of {allocated} bits are stored; HighBit must be {stored - 1}"
        )
    return int(high) + 1 - stored


def require_declared_sizes(dataset: Any, frames: int) -> None:
    """Compare the size in each compressed frame with the one that the file declares, before any is decoded.

    Raises:
        ValueError: they differ: the decoder would allocate what the frame says.
    """
    from pydicom.encaps import generate_frames

    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    declared = int(dataset.Columns), int(dataset.Rows), int(dataset.SamplesPerPixel)
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        found = frame_size(frame)
        if found not in (None, declared):
            raise ValueError(
                f"a compressed frame has {found}, but the file declares {declared} (columns, rows, samples)"
            )


def frame_size(frame: bytes) -> tuple[int, int, int] | None:
    """Width, height and samples per pixel of a JPEG, JPEG-LS or JPEG 2000 codestream; `None` for any other.

    Raises:
        ValueError: a codestream whose header is damaged.
    """
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg_size(frame)
        start = (
            frame.find(CODESTREAM + SIZE.to_bytes(2, "big")) if frame[:2] == CODESTREAM or b"jP" in frame[:8] else -1
        )
        if start < 0:
            return None
        right, lower, left, upper = struct.unpack_from(">4I", frame, start + 8)
        return right - left, lower - upper, struct.unpack_from(">H", frame, start + 40)[0]
    except (struct.error, IndexError) as error:
        raise ValueError("a compressed frame has no complete header") from error


def _jpeg_size(frame: bytes) -> tuple[int, int, int]:
    at = 2
    while frame[at + 1] not in FRAME_HEADERS:
        padding = frame[at : at + 2] == b"\xff\xff"
        at += 1 if padding else 2 + struct.unpack_from(">H", frame, at + 2)[0]
    height, width, samples = struct.unpack_from(">HHB", frame, at + 5)
    return width, height, samples
