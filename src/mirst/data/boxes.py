"""Boxes of the lesions of a data set: given by it, or found around its masks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mirst.data.box import Box
from mirst.data.dicom import tissue_region
from mirst.data.file_kind import Kind, file_kind
from mirst.data.images import decode
from mirst.data.readers.skipped_files import listed
from mirst.data.record import ImageFile, Record
from mirst.errors import MirstError

WithoutBox = Literal["drop", "whole"]
"""What to do with an image without a box in the lesion view: leave it out, or show it whole."""
LABELS = 8
"""Values of a mask that numbers the parts of a lesion, at most."""

MAX_BETWEEN = 0.25
"""Share of the pixels of a mask that are neither near black nor near white, at most."""


def with_boxes(
    records: Sequence[Record], without_box: WithoutBox = "drop", on_remark: Callable[[str], object] = lambda _: None
) -> list[Record]:
    """The records, each with the box of its lesion: the one that it has, else the one around all of its masks.

    Args:
        without_box: whether an image without a box is left out, or kept to be shown whole.
        on_remark: called with a sentence that counts and names the images without a box, if there are any.

    Raises:
        MirstError: a mask that cannot be read, a prepared folder, or no image with a box.
    """
    prepared = [path.parent for path in {record.path for record in records} if file_kind(path) is Kind.NPY]
    if prepared:
        raise MirstError(
            f"{prepared[0]} contains prepared whole images without boxes, and the lesion view is cropped from the "
            "original images; give the original data set"
        )
    boxed = [replace(record, box=box_of(record)) for record in records]
    without = [record.name for record in boxed if record.box is None]
    if len(without) == len(boxed):
        raise MirstError(
            "no image has a box, which the lesion view needs; add the columns x0,y0,x1,y1 or mask to a manifest, or "
            "put masks beside the images (NAME_mask.png)"
        )
    if without:
        on_remark(remark_without_box(without, without_box))
    return [record for record in boxed if record.box is not None or without_box == "whole"]


def remark_without_box(names: Sequence[str], without_box: WithoutBox) -> str:
    """What is done with the images of these names, which have no box.

    >>> remark_without_box(["a.png"], "whole")
    '1 image has no box and is shown whole: a.png.'
    """
    images = "1 image has no box and is" if len(names) == 1 else f"{len(names)} images have no box and are"
    return f"{images} {'left out' if without_box == 'drop' else 'shown whole'}: {listed(names)}."


def box_of(record: Record) -> Box | None:
    """The box of a lesion: the one that the record has, else the one around all of its masks; `None` without both.

    Raises:
        MirstError: a mask or DICOM file that cannot be read.
    """
    box = record.box or box_around(record.masks)
    return box and in_decoded(record.path, box)


def box_around(masks: Sequence[Path]) -> Box | None:
    """The smallest box around the white pixels of all masks; `None` if there are none.

    Raises:
        MirstError: as `union_of_masks`.
    """
    white = union_of_masks(masks)
    if white is None:
        return None
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    height, width = white.shape
    return Box(columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1, (width, height))


def union_of_masks(masks: Sequence[Path]) -> NDArray[np.bool_] | None:
    """The white pixels of all masks of an image, `(H, W)`; `None` if there are none.

    White is every value above half of the largest one of its mask; in a mask of at most `LABELS` values, every value
    above 0.

    Raises:
        MirstError: a mask that cannot be read or is an image, or masks of different sizes.
    """
    values = [np.asarray(decode(ImageFile(path))) for path in masks]
    for path, one in zip(masks, values, strict=True):
        if _is_photograph(one):
            raise MirstError(f"{path} has the gray levels of an image and not those of a mask; give the lesion's mask")
    if len({one.shape for one in values}) > 1:
        raise MirstError(f"the masks {', '.join(path.name for path in masks)} differ in size; make them alike")
    union = np.any([one > _black(one) for one in values], axis=0) if values else np.zeros((1, 1), dtype=bool)
    return np.asarray(union) if union.any() else None


def _is_photograph(mask: NDArray[np.uint8]) -> bool:
    """Whether many pixels are neither near black nor near white: a third and more in ultrasound, none in a mask."""
    dark, bright = int(mask.min()), int(mask.max())
    eighth = (bright - dark) / 8
    between = (mask > dark + eighth) & (mask < bright - eighth)
    return len(np.unique(mask)) > LABELS and float(between.mean()) > MAX_BETWEEN


def _black(mask: NDArray[np.uint8]) -> float:
    """The largest value that is not white. Compression leaves many values; parts of a lesion are numbered by few."""
    return 0.0 if len(np.unique(mask)) <= LABELS else float(mask.max()) / 2


def in_decoded(path: Path, box: Box) -> Box:
    """A box of an image file in pixels of the decoded image, which is the tissue region of a DICOM frame.

    Args:
        box: in pixels of the whole frame of a DICOM file, or of a mask of that frame or of its tissue region.

    Raises:
        MirstError: a DICOM file that cannot be read or has another shape, or a box outside of its tissue region.
    """
    if file_kind(path) is not Kind.DICOM:
        return box
    tissue = tissue_region(path)
    if box.frame == tissue.size:
        return box
    try:
        whole = box.in_pixels_of(*tissue.frame)
    except MirstError as error:
        raise MirstError(f"{path}: {error}") from error
    moved = Box(whole.x0 - tissue.left, whole.y0 - tissue.top, whole.x1 - tissue.left, whole.y1 - tissue.top)
    width, height = tissue.size
    if moved.x1 <= 0 or moved.y1 <= 0 or moved.x0 >= width or moved.y0 >= height:
        raise MirstError(
            f"{path}: the box {box.x0:g},{box.y0:g},{box.x1:g},{box.y1:g} lies outside of the tissue region that is "
            f"read, {tissue.left},{tissue.top},{tissue.left + width},{tissue.top + height}"
        )
    return moved
