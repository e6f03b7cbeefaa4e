"""DICOM files: checked, decoded, cropped to their tissue region."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mirst.data.dicom_display import display
from mirst.data.record import Stamp, file_stamp
from mirst.data.value_range import Values
from mirst.errors import MirstError
from mirst.untrusted.dicom_headers import DEFLATED, require_bounded, require_one_photometric
from mirst.untrusted.dicom_streams import bit_shift, extra_could_read, missing_extra, plugin, require_declared_sizes
from mirst.untrusted.pictures import require_sides

TISSUE = 1
"""Region Data Type of B-mode tissue (DICOM PS3.3, C.8.5.5)."""


def frame_count(path: Path) -> int:
    return len(_frames(path))


def patient_of(path: Path) -> str | None:
    """The PatientID, for grouping in this process only; `None` if there is none."""
    dataset = _dataset(path)
    with _reading(path):
        patient = str(getattr(dataset, "PatientID", "") or "").strip()
    return patient or None


def require_one_slice(path: Path, max_side: int) -> None:
    """Check the header of an uploaded file before anything is decoded.

    Raises:
        MirstError: not a DICOM file, several frames, or too large.
    """
    dataset = _dataset(path)
    with _reading(path):
        frames = int(getattr(dataset, "NumberOfFrames", 1) or 1)
        size = int(dataset.Columns), int(dataset.Rows)
    if frames > 1:
        raise MirstError(f"{path} contains {frames} frames; upload one slice of a volume, or one frame of a loop")
    require_sides(path, size, max_side)


def forget() -> None:
    """Remove the most recently read files from memory."""
    _read_frames.cache_clear()
    _read_dataset.cache_clear()


def dicom_values(path: Path, frame: str | None) -> Values:
    """One frame as numbers, cropped to its tissue region.

    Raises:
        MirstError: not a readable DICOM image, no such frame, or several frames and no frame given.
    """
    frames = _frames(path)
    if frame is None and len(frames) > 1:
        raise MirstError(
            f"{path} contains {len(frames)} frames, and one is needed here; give a file with one frame, or put the "
            "file into a data set, in which each frame is an image"
        )
    number = int(frame or 0)
    if not 0 <= number < len(frames):
        raise MirstError(f"{path} has no frame {number}; it contains {len(frames)}")
    dataset = _dataset(path)
    with _reading(path), np.errstate(all="ignore"):  # damaged slopes may overflow
        return display(dataset, number, _cropped(dataset, frames[number]))


class Tissue(NamedTuple):
    """The tissue region that `dicom_values` crops the frames to, in pixels.

    >>> Tissue(left=40, top=20, size=(50, 30), frame=(100, 60)).size
    (50, 30)
    """

    left: int
    top: int
    size: tuple[int, int]
    """Width and height."""
    frame: tuple[int, int]
    """Width and height of the whole frames."""


def tissue_region(path: Path) -> Tissue:
    """The tissue region of a file.

    Raises:
        MirstError: not a readable DICOM image.
    """
    dataset = _dataset(path)
    with _reading(path):
        height, width = _frames(path).shape[1:3]
        left, top, right, bottom = _tissue_region(dataset, _frames(path)[0])
    return Tissue(left, top, (right - left, bottom - top), (width, height))


def _frames(path: Path) -> NDArray[Any]:
    """`(F, H, W)` or `(F, H, W, 3)`, as stored."""
    return _read_frames(path, file_stamp(path))


def _dataset(path: Path) -> Any:
    return _read_dataset(path, file_stamp(path))


@lru_cache(maxsize=2)
def _read_frames(path: Path, stamp: Stamp) -> NDArray[Any]:
    dataset = _read_dataset(path, stamp)
    with _reading(path):
        count = require_bounded(dataset, path.stat().st_size)
        require_one_photometric(dataset)
        require_declared_sizes(dataset, count)
        frames = _decoded(path, dataset)
        frames = frames if count > 1 else frames[None]
        if len(frames) != count or frames.shape[3:] not in ((), (3,)):
            raise ValueError(f"its pixels have the shape {frames.shape}")
        return frames


def _decoded(path: Path, dataset: Any) -> NDArray[Any]:
    from pydicom.pixels import pixel_array

    choice, shift = plugin(path, dataset), bit_shift(dataset)
    options: dict[str, Any] = {"bits_stored": int(dataset.BitsStored) + shift} if shift else {}
    try:
        frames = np.asarray(pixel_array(dataset, decoding_plugin=choice, **options))
    except Exception as error:
        if extra_could_read(dataset):
            raise missing_extra(path, dataset) from error
        raise
    return frames >> shift if shift else frames


@lru_cache(maxsize=2)
def _read_dataset(path: Path, _stamp: Stamp) -> Any:
    pydicom = _pydicom(path)
    with _reading(path):
        if path.is_file() and not pydicom.misc.is_dicom(path):
            raise MirstError(
                f"{path} has no DICM prefix and file meta information; write it as a DICOM file or remove it"
            )
        if pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
            raise ValueError("it is deflated, so its size cannot be checked before it is unpacked")
        dataset = pydicom.dcmread(path)
        if "Rows" not in dataset:
            raise MirstError(f"{path} is a DICOM file without an image; remove it")
        return dataset


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise MirstError(f"{path} is a DICOM file; pip install 'mirst[dicom]' to read it") from error
    return pydicom


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the many errors of damaged files into one. Warnings about damaged metadata are ignored."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except MirstError:
        raise
    except Exception as error:
        raise MirstError(f"cannot read {path} as a DICOM image ({error}); repair or remove it") from error


def _cropped(dataset: Any, frame: NDArray[Any]) -> NDArray[Any]:
    left, top, right, bottom = _tissue_region(dataset, frame)
    return frame[top:bottom, left:right]


def _tissue_region(dataset: Any, frame: NDArray[Any]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the first tissue region of the ultrasound calibration, else of the whole frame."""
    height, width = frame.shape[:2]
    for region in getattr(dataset, "SequenceOfUltrasoundRegions", None) or []:
        if int(getattr(region, "RegionDataType", 0)) != TISSUE:
            continue
        x0, y0 = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
        x1, y1 = int(region.RegionLocationMaxX1), int(region.RegionLocationMaxY1)
        if 0 <= x0 < x1 < width and 0 <= y0 < y1 < height:
            return x0, y0, x1 + 1, y1 + 1
    return 0, 0, width, height
