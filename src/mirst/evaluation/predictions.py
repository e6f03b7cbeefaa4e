"""Predictions of a checkpoint for image files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirst.calibration import Calibration, softmax
from mirst.data import (
    Box,
    ImageFile,
    ImageSet,
    LesionCrop,
    Lesions,
    ValueRange,
    box_around,
    decode,
    few_levels,
    find_images,
    lesion_crop,
    load_images,
    picture_count,
)
from mirst.data.boxes import in_decoded, remark_without_box
from mirst.data.masks import masks_by_image
from mirst.data.readers.skipped_files import listed
from mirst.errors import MirstError, plain
from mirst.evaluation.judge import decide
from mirst.evaluation.value_range import range_remark
from mirst.nn import ModelCard, load_model
from mirst.nn.device import default_device, device_of
from mirst.nn.logits import logits_of

BATCH_SIZE = 64


@dataclass(frozen=True)
class Prediction:
    """The prediction of a model for one image.

    >>> Prediction(Path("a.dcm"), "2", "benign", (0.9, 0.1), 0.1).name
    'a.dcm#2'
    """

    image: Path
    frame: str | None
    """Number of the frame, from 0, of a DICOM file that contains several."""
    predicted_class: str
    """The class at the model's operating threshold."""
    probabilities: tuple[float, ...]
    """Of the classes, in the order of the model card; calibrated if the card has a calibration."""
    probability: float
    """Of the positive class, or of the predicted class if there is none."""
    few_levels: int | None = None
    """Number of gray levels, if it is so small that some may have been lost."""
    pictures: int = 1
    """Number of pages or frames of an image file, of which only the first is read."""
    range_remark: str | None = None
    """Why its values do not fit the range in the model card, if they do not."""
    class_set: tuple[str, ...] | None = None
    """The classes that may be the true one at the coverage that was asked for; `None` if none was."""

    @property
    def name(self) -> str:
        return str(self.image) if self.frame is None else f"{self.image}#{self.frame}"

    @property
    def abstains(self) -> bool:
        """Whether the set was asked for and is not the predicted class alone."""
        return self.class_set not in (None, (self.predicted_class,))

    def remarks(self, card: ModelCard) -> list[str]:
        """Warnings about the image, each the rest of a sentence after its name; often none."""
        remarks = []
        if self.pictures > 1:
            remarks.append(f"contains {self.pictures} pages or frames; only the first is read")
        if self.range_remark is not None:
            remarks.append(self.range_remark)
        if self.few_levels is not None:
            check = "check that it was saved with all of them"
            if card.value_range is not None:
                check = f"compare its values with {ValueRange(*card.value_range)}, the range in the model's card"
            remarks.append(f"has only {self.few_levels} of 256 gray levels after scaling; {check}")
        return remarks


def predict(
    path: Path,
    images: Sequence[Path],
    trusted: str | None = None,
    on_progress: Callable[[str], object] = lambda _: None,
    box: Box | None = None,
    coverage: float | None = None,
) -> tuple[ModelCard, list[Prediction]]:
    """Predictions of a checkpoint for image files and for the images in folders.

    A model that takes crops around lesions needs the box of each: `box`, or that around the masks beside the image. An
    image without a box is shown whole if those of its training data were; otherwise it is an error.

    Args:
        images: files and folders, as for `find_images`.
        box: of the lesion in the only image file, in pixels of the upright image, or of the whole frame of a DICOM
            file; it counts for every frame.
        trusted: as for `load_model`.
        coverage: above 0 and below 1, for the sets of classes (`mirst.calibration.Calibration.sets`).
        on_progress: called with a sentence about files in the folders that are left out, images that are shown whole,
            frames that have the same box, or classes that are in every set, if there are any.

    Raises:
        MirstError: a checkpoint or image that cannot be read, a path that does not exist, a folder without images, an
            image for which the model has no finite logits, a coverage out of range or for a checkpoint without a
            calibration, a box for a model that takes whole images or for several
            files, or a model that needs boxes and an image without one.
    """
    model, card = load_model(path, trusted)
    model.to(default_device())
    if coverage is not None and (sentence := _too_few(_calibration_of(path, card), card, coverage)):
        on_progress(sentence)
    files, left_out = find_images(images)
    if left_out:
        names = ", ".join(map(str, left_out[:3])) + (", ..." if len(left_out) > 3 else "")
        on_progress(
            f"{len(left_out)} file(s) in the folders are left out, because their names are those of masks or their "
            f"format is not supported: {names}"
        )
    boxes = boxes_for(card, files, box)
    if box is not None and len(files) > 1:
        on_progress(f"the {len(files)} frames of {files[0].path} have the same box")
    without = [str(file.path) for file, own in zip(files, boxes, strict=True) if own is None]
    if card.view == "lesion" and without:
        on_progress(remark_without_box(without, "whole"))
    predictions: list[Prediction] = []
    for begin in range(0, len(files), BATCH_SIZE):
        part = [file._replace(value_range=card.value_range) for file in files[begin : begin + BATCH_SIZE]]
        x = images_for(card, part, boxes[begin : begin + BATCH_SIZE])
        logits = logits_of(model, x.to(device_of(model))).cpu()
        if unsure := [str(file.path) for file, row in zip(part, logits, strict=True) if not row.isfinite().all()]:
            raise MirstError(f"the model returns logits that are not finite for {', '.join(unsure)}; leave them out")
        _, predicted = decide(logits, card.positive_index, card.threshold)
        probabilities = _probabilities(card, logits)
        named = probabilities.max(1) if card.positive is None else probabilities[:, card.positive_index]
        columns = predicted.tolist(), probabilities.tolist(), named.tolist()
        predictions += [
            Prediction(
                file.path,
                file.item,
                card.classes[number],
                tuple(shares),
                probability,
                few_levels(decode(file)),
                picture_count(file),
                range_remark(file, card),
                class_set,
            )
            for file, number, shares, probability, class_set in zip(
                part, *columns, _class_sets(card, logits, coverage), strict=True
            )
        ]
    return card, predictions


def _calibration_of(path: Path, card: ModelCard) -> Calibration:
    if card.calibration is None:
        raise MirstError(
            f"{path} has no calibration, so it gives no sets of classes; leave out the coverage, or train the model "
            "again with validation images (training.val_fraction)"
        )
    return card.calibration


def _too_few(calibration: Calibration, card: ModelCard, coverage: float) -> str | None:
    """A sentence on the classes that are in every set, if there are any."""
    always = [name for name, own in zip(card.classes, calibration.in_every_set(coverage), strict=True) if own]
    if not always:
        return None
    names = " and ".join(always)
    return f"at coverage {coverage:g}, every set contains {names}: there were too few validation images"


def _probabilities(card: ModelCard, logits: Tensor) -> NDArray[np.float64]:
    """`(N, K)`, calibrated if the card has a calibration."""
    values = logits.double().cpu().numpy()
    return softmax(values) if card.calibration is None else card.calibration.probabilities(values)


def _class_sets(card: ModelCard, logits: Tensor, coverage: float | None) -> list[tuple[str, ...] | None]:
    if card.calibration is None or coverage is None:
        return [None] * len(logits)
    contained = card.calibration.sets(logits.double().cpu().numpy(), coverage)
    return [tuple(name for name, own in zip(card.classes, row, strict=True) if own) for row in contained]


def images_for(card: ModelCard, files: Sequence[ImageFile], boxes: Sequence[Box | None]) -> Tensor:
    """The images as the model of `card` takes them.

    Args:
        boxes: one per image; ignored by a model that takes whole images.

    Raises:
        MirstError: a file that cannot be read, or a box outside of its image.
    """
    if card.view == "whole":
        return torch.from_numpy(load_images(files, card.size, card.channels)).float() / 255
    crops = [
        lesion_crop(file, box, card.size, card.margin, card.channels) for file, box in zip(files, boxes, strict=True)
    ]
    return crops_for(card, crops)


def crops_for(card: ModelCard, crops: Sequence[LesionCrop]) -> Tensor:
    """Crops around lesions as the model of `card` takes them, with the box code if the box is an input."""
    surroundings = np.stack([crop.surroundings for crop in crops])
    lesions = Lesions(card.size, card.margin, np.array([crop.features for crop in crops]), card.box == "fused")
    return ImageSet(surroundings, np.zeros(len(crops), np.int64), lesions=lesions)[list(range(len(crops)))][0]


def boxes_for(card: ModelCard, files: Sequence[ImageFile], box: Box | None = None) -> list[Box | None]:
    """The box of the lesion in each image: `box` for a single file, else the one around the masks beside the image.

    `None` for a model that takes whole images, and for an image without a box if such training images were shown whole.

    Raises:
        MirstError: a box for a model that takes whole images or for several files, or an image without a box that the
            model needs.
    """
    if card.view == "whole":
        if box is not None:
            raise MirstError("the model takes whole images, so a box changes nothing; leave out --box and --mask")
        return [None] * len(files)
    if box is not None:
        paths = {file.path for file in files}
        if len(paths) > 1:
            raise MirstError(
                f"one box is given for {len(paths)} image files; give one of them, or put masks beside the images"
            )
        return [in_decoded(paths.pop(), box)] * len(files)
    masks = masks_by_image(file.path for file in files)
    found = [box_around(masks[file.path]) for file in files]
    without = [str(file.path) for file, own in zip(files, found, strict=True) if own is None]
    if without and card.without_box == "drop":
        raise MirstError(
            f"the model takes crops around lesions, and there is no box for {listed(without)}; give --box x0,y0,x1,y1 "
            "or --mask FILE, or put masks beside the images (NAME_mask.png)"
        )
    return [own and in_decoded(file.path, own) for file, own in zip(files, found, strict=True)]


def prediction_table(card: ModelCard, predictions: Sequence[Prediction]) -> pd.DataFrame:
    """One row per image: `image`, `answer` (the predicted class) and `probability of CLASS` for each class.

    With sets of classes also `CLASS in set` for each class, and `abstains`.
    """
    rows = [(plain(each.name), each.predicted_class, *each.probabilities) for each in predictions]
    table = pd.DataFrame(rows, columns=["image", "answer", *(f"probability of {name}" for name in card.classes)])
    if any(each.class_set is not None for each in predictions):
        for name in card.classes:
            table[f"{name} in set"] = [name in (each.class_set or ()) for each in predictions]
        table["abstains"] = [each.abstains for each in predictions]
    return table


def prediction_document(
    checkpoint: Path, card: ModelCard, predictions: Sequence[Prediction], coverage: float | None = None
) -> dict[str, Any]:
    """The content of `prediction_table`, the model's operating point and its temperature, ready for JSON.

    Args:
        coverage: of the sets of classes, if the predictions have them.
    """
    return {
        "model": str(checkpoint),
        "classes": list(card.classes),
        "positive": card.positive,
        "threshold": card.threshold,
        "temperature": None if card.calibration is None else card.calibration.temperature,
        **({} if coverage is None else {"coverage": coverage}),
        "predictions": [
            {
                "image": str(each.image),
                "frame": None if each.frame is None else int(each.frame),
                "answer": each.predicted_class,  # the key in files that other programs read
                "probabilities": dict(zip(card.classes, each.probabilities, strict=True)),
                **({} if each.class_set is None else {"set": list(each.class_set), "abstains": each.abstains}),
            }
            for each in predictions
        ],
    }
