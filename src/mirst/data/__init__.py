"""From files on disk to folds of images."""

from mirst.data.audit import Audit, audit_records, read_for_audit
from mirst.data.cache import CarriedImages, PreparedImages, prepare_images
from mirst.data.folds import FOLDS, VAL_FRACTION, Fold, make_folds, split_validation, warn_of_folds
from mirst.data.image_files import find_images
from mirst.data.image_set import ImageSet, data_loader
from mirst.data.images import decode, intensity, letterbox, load_images, picture_count, with_shared_range
from mirst.data.inspection import few_levels
from mirst.data.labels_and_groups import ConflictRule, assign_groups, relabel, resolve_conflicts
from mirst.data.phantom import make_phantom, write_phantoms
from mirst.data.prepared_folder import write_prepared
from mirst.data.readers import READERS, read_dataset, read_datasets, select_classes
from mirst.data.record import ImageFile, Record, positive_class
from mirst.data.value_range import ValueRange

__all__ = [
    "FOLDS",
    "READERS",
    "VAL_FRACTION",
    "Audit",
    "CarriedImages",
    "ConflictRule",
    "Fold",
    "ImageFile",
    "ImageSet",
    "PreparedImages",
    "Record",
    "ValueRange",
    "assign_groups",
    "audit_records",
    "data_loader",
    "decode",
    "few_levels",
    "find_images",
    "intensity",
    "letterbox",
    "load_images",
    "make_folds",
    "make_phantom",
    "picture_count",
    "positive_class",
    "prepare_images",
    "read_dataset",
    "read_datasets",
    "read_for_audit",
    "relabel",
    "resolve_conflicts",
    "select_classes",
    "split_validation",
    "warn_of_folds",
    "with_shared_range",
    "write_phantoms",
    "write_prepared",
]
