"""From files on disk to folds of images."""

from mirst.data.batches import ImageSet, batches
from mirst.data.folds import Fold, assign_groups, make_folds, split_validation
from mirst.data.images import decode, letterbox, load_images
from mirst.data.phantom import make_phantom, write_phantoms
from mirst.data.readers import Record, positive_class, read_dataset, relative_names

__all__ = [
    "Fold",
    "ImageSet",
    "Record",
    "assign_groups",
    "batches",
    "decode",
    "letterbox",
    "load_images",
    "make_folds",
    "make_phantom",
    "positive_class",
    "read_dataset",
    "relative_names",
    "split_validation",
    "write_phantoms",
]
