"""The images of a data set as a trained model takes them."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from mirst.data import (
    ImageSet,
    Lesions,
    Record,
    assign_groups,
    prepare_images,
    prepare_lesions,
    read_dataset,
    select_classes,
    with_boxes,
)
from mirst.data.inspection import inspect_images
from mirst.data.readers import remark_other_classes
from mirst.evaluation.model_checks import require_classes
from mirst.evaluation.value_range import range_remark
from mirst.nn import ModelCard


class DataWarning(UserWarning):
    """Images of a data set that an evaluation leaves out, or whose values do not fit the model.

    >>> str(DataWarning("2 images are left out"))
    '2 images are left out'
    """


def images_for_model(model: nn.Module, card: ModelCard, path: Path) -> tuple[list[Record], ImageSet]:
    """The images of a data set as the card describes them, in their groups.

    Warns (`DataWarning`) of classes that the model does not have, of images without a box that it needs, of values
    that do not fit it, and of colours that it does not see. Images without a box are left out or shown whole, as those
    that the model was trained on.

    Raises:
        MirstError: data that cannot be read or lack a class of the model, or a model that does not accept them or does
            not have a logit for each class.
    """
    found = read_dataset(path)
    if other := remark_other_classes(found, card.classes, "the model"):
        _warn(other)
    known = [replace(record, value_range=card.value_range) for record in select_classes(found, card.classes, path)]
    if card.view == "lesion":
        known = with_boxes(known, card.without_box, _warn)
    records = assign_groups(known)
    _warn_of_ranges(records, card)
    _warn_of_colour(records, card)
    images = _images(records, card)
    require_classes(model, images[[0, 1]][0], len(card.classes))
    return records, images


def _images(records: Sequence[Record], card: ModelCard) -> ImageSet:
    files = [record.file for record in records]
    labels = np.array([card.classes.index(record.label) for record in records], dtype=np.int64)
    if card.view == "whole":
        return ImageSet(prepare_images(files, card.size, card.channels).pixels, labels)
    images = prepare_lesions(files, [record.box for record in records], card.size, card.margin, card.channels)
    assert images.features is not None  # lesions have them
    return ImageSet(
        images.pixels, labels, lesions=Lesions(card.size, card.margin, images.features, card.box == "fused")
    )


def _warn(sentence: str) -> None:
    warnings.warn(sentence.removesuffix("."), DataWarning, stacklevel=5)


def _warn_of_colour(records: Sequence[Record], card: ModelCard) -> None:
    colour = inspect_images([record.file for record in records]).colour if card.channels == 1 else []
    if colour:
        _warn(f"{len(colour)} of {len(records)} images are in colour, but the model sees them in gray")


def _warn_of_ranges(records: Sequence[Record], card: ModelCard) -> None:
    unfit = [(record.name, remark) for record in records if (remark := range_remark(record.file, card))]
    if unfit:
        more = f", and {len(unfit) - 1} more images do not fit either" if len(unfit) > 1 else ""
        warnings.warn(f"{unfit[0][0]} {unfit[0][1]}{more}", DataWarning, stacklevel=4)
