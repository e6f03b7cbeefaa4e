"""DICOM headers: how many frames, pixels and values a file may declare before anything is decoded."""

from typing import Any

from mirst.untrusted.pictures import MAX_SIDE

MAX_PIXELS = 2**29
"""Values of all frames of a file."""
MAX_FRAME = 2**26
"""Pixels of one frame: windowing takes some thirty bytes for each."""
SMALL, MAX_RATIO = 2**27, 50
"""A file of more than `SMALL` values must have at least one byte for every `MAX_RATIO` of them."""
DEFLATED = "1.2.840.10008.1.2.1.99"
"""The transfer syntax of deflated files."""


def require_bounded(dataset: Any, size: int) -> int:
    """The number of frames.

    Args:
        size: of the file, in bytes.

    Raises:
        ValueError: it declares too many values, pixels a frame, or pixels a side.
    """
    frames, height, width = int(getattr(dataset, "NumberOfFrames", 1) or 1), int(dataset.Rows), int(dataset.Columns)
    most = min(MAX_PIXELS, max(SMALL, MAX_RATIO * size))
    values = height * width * int(dataset.SamplesPerPixel) * frames
    if values > most or height * width > MAX_FRAME or max(height, width) > MAX_SIDE:
        raise ValueError(
            f"it declares {frames} frames of {width} x {height}, {values} values; at most {most} "
            f"are accepted, {MAX_FRAME} pixels a frame, {MAX_SIDE} a side"
        )
    return frames


def require_one_photometric(dataset: Any) -> None:
    """Raise `ValueError` if the file states several photometric interpretations."""
    stated = dataset.get("PhotometricInterpretation")
    if stated is not None and not isinstance(stated, str):
        raise ValueError(f"it states several photometric interpretations, {', '.join(map(str, stated))}")
