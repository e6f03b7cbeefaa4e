"""From files on disk to folds of images."""

from mirst.data.attributes import MOST_VALUES, dividing_attributes
from mirst.data.audit import Audit, audit_records, read_for_audit
from mirst.data.augmentation import Augmentation
from mirst.data.box import Box, parse_box
from mirst.data.boxes import WithoutBox, box_around, box_of, with_boxes
from mirst.data.cache import CarriedImages, PreparedImages, lesion_crop, prepare_images, prepare_lesions
from mirst.data.colour import Channels, channels_remark, resolved_channels
from mirst.data.folds import FOLDS, VAL_FRACTION, Fold, make_folds, split_validation, warn_of_folds
from mirst.data.given_folds import SPLIT_LEAK, folds_of_split, given_validation, warn_of_split
from mirst.data.image_files import find_images
from mirst.data.image_set import ImageSet, data_loader
from mirst.data.images import (
    decode,
    images_in_colour,
    intensity,
    letterbox,
    load_images,
    picture_count,
    with_shared_range,
)
from mirst.data.inspection import few_levels
from mirst.data.labels_and_groups import ConflictRule, assign_groups, relabel, resolve_conflicts
from mirst.data.lesion import MARGIN, LesionCrop, Lesions, Placements
from mirst.data.levels import AuditRule
from mirst.data.lookup import Lookup
from mirst.data.modality import Modality
from mirst.data.phantom import make_phantom, write_phantoms
from mirst.data.prepared_folder import write_prepared
from mirst.data.readers import READERS, read_dataset, read_datasets, select_classes
from mirst.data.record import ImageFile, Record, positive_class, scored_index
from mirst.data.value_range import ValueRange

__all__ = [
    "FOLDS",
    "MARGIN",
    "MOST_VALUES",
    "READERS",
    "SPLIT_LEAK",
    "VAL_FRACTION",
    "Audit",
    "AuditRule",
    "Augmentation",
    "Box",
    "CarriedImages",
    "Channels",
    "ConflictRule",
    "Fold",
    "ImageFile",
    "ImageSet",
    "LesionCrop",
    "Lesions",
    "Lookup",
    "Modality",
    "Placements",
    "PreparedImages",
    "Record",
    "ValueRange",
    "WithoutBox",
    "assign_groups",
    "audit_records",
    "box_around",
    "box_of",
    "channels_remark",
    "data_loader",
    "decode",
    "dividing_attributes",
    "few_levels",
    "find_images",
    "folds_of_split",
    "given_validation",
    "images_in_colour",
    "intensity",
    "lesion_crop",
    "letterbox",
    "load_images",
    "make_folds",
    "make_phantom",
    "parse_box",
    "picture_count",
    "positive_class",
    "prepare_images",
    "prepare_lesions",
    "read_dataset",
    "read_datasets",
    "read_for_audit",
    "relabel",
    "resolve_conflicts",
    "resolved_channels",
    "scored_index",
    "select_classes",
    "split_validation",
    "warn_of_folds",
    "warn_of_split",
    "with_boxes",
    "with_shared_range",
    "write_phantoms",
    "write_prepared",
]
