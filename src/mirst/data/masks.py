"""Which files are masks of other images, by their names."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath

from mirst.data.file_kind import SUFFIXES, Kind

_WORD = re.compile(r"(?<![A-Za-z])masks?(?![a-z])|(?<=[a-z])(?-i:M)asks?(?![a-z])", re.IGNORECASE)
_IMAGES = re.compile(r"image|img", re.IGNORECASE)
_FOLDERS = ("mask", "masks")
_AFFIX = re.compile(r"^masks?[ _.-]+|[ _.-]*masks?(?:[ _.-]*\(?\d+\)?)?$", re.IGNORECASE)
"""What the name of a mask adds to that of its image."""


def is_mask(path: PurePath) -> bool:
    """Whether the name of the file contains the word mask, in any letter case, or its folder is called `masks`.

    >>> is_mask(PurePath("Benign/benign (1)_MASK_1.jpg")), is_mask(PurePath("benign/unmasked.png"))
    (True, False)
    """
    return _WORD.search(path.stem) is not None or path.parent.name.lower() in _FOLDERS


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name contains masks alone: `masks`, `Benign_mask`, but not `images_and_masks`."""
    return _WORD.search(name) is not None and not _IMAGES.search(name)


def masks_of(image: Path) -> list[Path]:
    """The masks of one image, as `masks_by_image` finds them."""
    return masks_by_image([image])[image]


def masks_by_image(images: Iterable[Path]) -> dict[Path, list[Path]]:
    """The masks of each image by their names, sorted; empty for an image without.

    The masks of `NAME.png` are `NAME_mask.png`, `NAME_mask_1.png` or `mask_NAME.png` in the same folder. They may also
    be in a folder of masks, and be called `NAME.png` there: `FOLDER/masks` or `FOLDER_mask` for images in `FOLDER`, and
    `masks` beside `images`. The suffixes may differ.

    >>> masks_of(Path("lesions/benign/benign (1).png"))
    []
    """
    folders: dict[Path, dict[str, list[Path]]] = {}
    found: dict[Path, list[Path]] = {}
    for image in images:
        if image.parent not in folders:
            folders[image.parent] = _masks_around(image.parent)
        found[image] = sorted(folders[image.parent].get(image.stem, []))
    return found


def _masks_around(folder: Path) -> dict[str, list[Path]]:
    """The masks of the images in `folder`, by the stem of the image."""
    masks: defaultdict[str, list[Path]] = defaultdict(list)
    beside = [path for path in _contents(folder) if _WORD.search(path.stem)]
    for path in [*beside, *(path for place in _mask_folders(folder) for path in _contents(place))]:
        if path.suffix.lower() in SUFFIXES[Kind.PICTURE]:
            masks[_AFFIX.sub("", path.stem)].append(path)
    return dict(masks)


def _mask_folders(folder: Path) -> list[Path]:
    inside = [place for place in _contents(folder) if place.name.lower() in _FOLDERS]
    names = _FOLDERS if _IMAGES.search(folder.name) else ()
    beside = [place for place in _contents(folder.parent) if is_mask_folder(place.name)]
    return inside + [p for p in beside if p.name.lower() in names or _AFFIX.sub("", p.name) == folder.name]


def _contents(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
