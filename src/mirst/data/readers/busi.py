"""BUSI [Al-Dhabyani et al. 2020] in its published layout: class folders with masks among the images."""

import re
from pathlib import Path

from mirst.data.readers.class_folders import class_folders, image_files
from mirst.data.record import Record
from mirst.errors import MirstError

MASK = re.compile(r"(.+)_mask(_\d+)?")
PUBLISHED = "Dataset_BUSI_with_GT"


def recognises(root: Path) -> bool:
    """Class folders benign and malignant, with at least one mask; or the folder above."""
    if not root.is_dir():
        return False
    folders = class_folders(_inner(root))
    has_masks = any(is_mask(p) for folder in folders for p in image_files(folder))
    return has_masks and {"benign", "malignant"} <= {folder.name for folder in folders}


def read(root: Path) -> list[Record]:
    """Raises `MirstError` for a class without images."""
    records = []
    for folder in class_folders(_inner(root)):
        images = [p for p in image_files(folder) if not is_mask(p)]
        if not images:
            raise MirstError(f"class folder {folder} holds no images; fill it or remove it")
        records += [Record(p, folder.name, None, "busi", f"{folder.name}/{p.name}") for p in images]
    return records


def _inner(root: Path) -> Path:
    return root / PUBLISHED if (root / PUBLISHED).is_dir() else root


def is_mask(path: Path) -> bool:
    match = MASK.fullmatch(path.stem)
    return match is not None and path.with_stem(match[1]).exists()
