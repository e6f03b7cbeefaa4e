"""MedMNIST `.npz` files [Yang et al. 2023], BreastMNIST among them."""

from pathlib import Path

import numpy as np

from mirst.data.npz import npz_array
from mirst.data.record import Record
from mirst.errors import MirstError

MAX_IMAGES = 2**20
"""Of a split; the largest that MedMNIST published has 165 thousand."""
CLASS_NAMES = {"breastmnist": {"0": "malignant", "1": "normal, benign"}}
"""As MedMNIST publishes them; the classes of its other sets are called by their numbers."""


def recognises(root: Path) -> bool:
    return root.is_file() and root.suffix.lower() == ".npz"


def read(path: Path) -> list[Record]:
    """All images of the three published splits, each with the name of its own.

    Raises:
        MirstError: the file is no npz, or its arrays do not have MedMNIST's names and shapes, labels
            that are not whole numbers, or more than `MAX_IMAGES` images.
    """
    source = path.stem.lower()
    names = next((names for key, names in CLASS_NAMES.items() if source.startswith(key)), {})
    records = []
    for split in ("train", "val", "test"):
        images, labels = npz_array(path, f"{split}_images"), npz_array(path, f"{split}_labels")
        if images.ndim not in (3, 4) or labels.reshape(len(labels), -1).shape != (len(images), 1):
            raise MirstError(f"{path}: {split} has images {images.shape} but labels {labels.shape}; each needs one")
        if len(images) > MAX_IMAGES:
            raise MirstError(f"{path}: {split} contains {len(images)} images; at most {MAX_IMAGES} are accepted")
        if not np.isfinite(labels).all() or not np.array_equal(labels, np.trunc(labels)):
            raise MirstError(
                f"{path}: {split}_labels contains numbers that are not whole; each label is a class number"
            )
        for number, label in enumerate(labels.reshape(-1)):
            item, name = f"{split}/{number}", str(int(label))
            records.append(Record(path, names.get(name, name), None, source, item, item, split=split))
    return records
