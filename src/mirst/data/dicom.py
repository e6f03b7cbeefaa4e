"""DICOM ultrasound as 8-bit frames."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirst.data.pictures import MAX_SIDE
from mirst.data.record import Stamp, file_stamp
from mirst.errors import MirstError

MAX_PIXELS = 2**29
"""Values of all frames of a file."""
MAX_FRAME = 2**26
"""Pixels of one frame: windowing takes some thirty bytes for each."""
SMALL, MAX_RATIO = 2**27, 50
"""More values than the first must take at least one byte of the file for so many of them."""
DEFLATED = "1.2.840.10008.1.2.1.99"
TISSUE = 1
"""Region Data Type of B-mode tissue (DICOM PS3.3, C.8.5.5)."""


def frame_count(path: Path) -> int:
    return len(_frames(path))


def patient_of(path: Path) -> str | None:
    """The PatientID, for grouping inside this process alone; `None` where there is none."""
    dataset = _dataset(path)
    with _reading(path):
        patient = str(getattr(dataset, "PatientID", "") or "").strip()
    return patient or None


def require_one_slice(path: Path, max_side: int) -> None:
    """Judge a file of unknown origin by its header, before anything is decoded.

    Raises:
        MirstError: no DICOM file, several frames, or too large.
    """
    dataset = _dataset(path)
    with _reading(path):
        frames = int(getattr(dataset, "NumberOfFrames", 1) or 1)
        height, width = int(dataset.Rows), int(dataset.Columns)
    if frames > 1:
        raise MirstError(f"{path} holds {frames} frames; of a volume or a loop send one slice")
    if max(height, width) > max_side:
        raise MirstError(f"{path} is {width} x {height}; sides of at most {max_side} pixels are taken")


def forget() -> None:
    """Drop the files that were read last from memory."""
    _read_frames.cache_clear()
    _read_dataset.cache_clear()


def decode_dicom(path: Path, frame: str | None) -> Image.Image:
    """One frame, cropped to its tissue region.

    Raises:
        MirstError: no readable DICOM image, or no such frame, or several and none named.
    """
    frames = _frames(path)
    if frame is None and len(frames) > 1:
        raise MirstError(f"{path} holds {len(frames)} frames; a data set takes each as an image")
    number = int(frame or 0)
    if not 0 <= number < len(frames):
        raise MirstError(f"{path} has no frame {number}; it holds {len(frames)}")
    return Image.fromarray(frames[number])


def _frames(path: Path) -> NDArray[np.uint8]:
    """`(F, H, W)` or `(F, H, W, 3)`, as shown to a reader: rescaled, windowed, dark background."""
    return _read_frames(path, file_stamp(path))


def _dataset(path: Path) -> Any:
    return _read_dataset(path, file_stamp(path))


@lru_cache(maxsize=2)
def _read_frames(path: Path, stamp: Stamp) -> NDArray[np.uint8]:
    dataset = _read_dataset(path, stamp)
    with _reading(path):
        _require_bounded(dataset, path.stat().st_size)
        frames = _eight_bit(dataset)
        if frames.shape[3:] not in ((), (3,)):
            raise ValueError(f"its pixels have the shape {frames.shape}")
        return _cropped(dataset, frames)


@lru_cache(maxsize=2)
def _read_dataset(path: Path, _stamp: Stamp) -> Any:
    pydicom = _pydicom(path)
    with _reading(path):
        if pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
            raise ValueError("it is stored deflated, which no header bounds")
        return pydicom.dcmread(path)


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise MirstError(f"{path} is a DICOM file; install mirst[dicom] to read it") from error
    return pydicom


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Damaged files fail in many ways, all meaning the same; damaged metadata alone are no reason to stop."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except Exception as error:
        raise MirstError(f"cannot read {path} as a DICOM image ({error}); repair or remove it") from error


def _eight_bit(dataset: Any) -> NDArray[np.uint8]:
    from pydicom.pixels import apply_color_lut, pixel_array

    pixels = pixel_array(dataset)
    photometric = str(dataset.PhotometricInterpretation)
    colour = int(dataset.SamplesPerPixel) == 3
    if photometric == "PALETTE COLOR":
        pixels, colour = apply_color_lut(pixels, dataset), True
    shape = pixels.shape if int(getattr(dataset, "NumberOfFrames", 1) or 1) > 1 else (1, *pixels.shape)
    if colour:
        scale = 1 if pixels.dtype == np.uint8 else 257
        return np.asarray(pixels.reshape(shape) // scale, dtype=np.uint8)
    frames = np.empty(shape, dtype=np.uint8)
    for frame, stored in zip(
        frames, pixels.reshape(shape), strict=True
    ):  # one by one: as floats they are eight times as large
        gray = _shown(dataset, stored)
        frame[:] = np.round((1 - gray if photometric == "MONOCHROME1" else gray).clip(0, 1) * 255)
    return frames


def _require_bounded(dataset: Any, size: int) -> None:
    frames, height, width = int(getattr(dataset, "NumberOfFrames", 1) or 1), int(dataset.Rows), int(dataset.Columns)
    most = min(MAX_PIXELS, max(SMALL, MAX_RATIO * size))
    values = height * width * int(dataset.SamplesPerPixel) * frames
    if values > most or height * width > MAX_FRAME or max(height, width) > MAX_SIDE:
        raise ValueError(
            f"it declares {frames} frames of {width} x {height}, {values} values; at most {most} "
            f"are read, {MAX_FRAME} pixels a frame, {MAX_SIDE} a side"
        )


def _shown(dataset: Any, pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Gray values in [0, 1]: through rescale and window where given (PS3.3, C.11.2.1.2.1), else the stored range."""
    from pydicom.pixels import apply_modality_lut, apply_voi

    if "VOILUTSequence" in dataset:
        depth = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return np.asarray(apply_voi(apply_modality_lut(pixels, dataset), dataset) / (2.0**depth - 1), dtype=np.float64)
    if "WindowWidth" in dataset and "WindowCenter" in dataset:
        centre, width = (float(np.atleast_1d(dataset[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
        values = np.asarray(apply_modality_lut(pixels, dataset), dtype=np.float64)
        return (values - (centre - 0.5)) / max(width - 1, 1e-12) + 0.5
    bits, signed = int(dataset.BitsStored), int(getattr(dataset, "PixelRepresentation", 0))
    return (pixels.astype(np.float64) + signed * 2.0 ** (bits - 1)) / (2.0**bits - 1)


def _cropped(dataset: Any, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first tissue region of the ultrasound calibration; the whole frame where there is none."""
    for region in getattr(dataset, "SequenceOfUltrasoundRegions", None) or []:
        if int(getattr(region, "RegionDataType", 0)) != TISSUE:
            continue
        x0, y0 = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
        x1, y1 = int(region.RegionLocationMaxX1), int(region.RegionLocationMaxY1)
        height, width = frames.shape[1:3]
        if 0 <= x0 < x1 < width and 0 <= y0 < y1 < height:
            return frames[:, y0 : y1 + 1, x0 : x1 + 1]
    return frames
