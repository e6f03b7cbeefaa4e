"""BUSI [Al-Dhabyani et al. 2020] in its published layout: class folders with masks among the images."""

from pathlib import Path

from mirst.data.masks import is_mask
from mirst.data.readers.class_folders import class_folders, read_classes, visible
from mirst.data.record import Record

PUBLISHED = "Dataset_BUSI_with_GT"


def recognises(root: Path) -> bool:
    """Class folders benign and malignant, with at least one mask; or the folder above."""
    if not root.is_dir():
        return False
    folders = class_folders(published(root))
    has_masks = any(is_mask(p) and p.is_file() for folder in folders for p in visible(folder))
    return has_masks and {"benign", "malignant"} <= {folder.name.lower() for folder in folders}


def read(root: Path) -> list[Record]:
    """Raises `MirstError` for a class without images."""
    return read_classes(published(root), "busi")


def published(root: Path) -> Path:
    return root / PUBLISHED if (root / PUBLISHED).is_dir() else root
