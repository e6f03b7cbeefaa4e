"""Which files are masks of other images, by their names."""

import re
from pathlib import PurePath

_WORD = re.compile(r"(?<![A-Za-z])masks?(?![a-z])|(?<=[a-z])(?-i:M)asks?(?![a-z])", re.IGNORECASE)
_IMAGES = re.compile(r"image|img", re.IGNORECASE)


def is_mask(path: PurePath) -> bool:
    """Whether the name of the file contains the word mask, in any letter case, or its folder is called `masks`.

    >>> is_mask(PurePath("Benign/benign (1)_MASK_1.jpg")), is_mask(PurePath("benign/unmasked.png"))
    (True, False)
    """
    return _WORD.search(path.stem) is not None or path.parent.name.lower() in ("mask", "masks")


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name contains masks alone: `masks`, `Benign_mask`, but not `images_and_masks`."""
    return _WORD.search(name) is not None and not _IMAGES.search(name)
