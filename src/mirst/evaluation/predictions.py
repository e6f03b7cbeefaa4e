"""A checkpoint of ours on image files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mirst.data import ValueRange, decode, few_levels, find_images, load_images, picture_count
from mirst.errors import MirstError, plain
from mirst.evaluation.judge import decide
from mirst.evaluation.value_range import range_remark
from mirst.nn import ModelCard, load_model
from mirst.nn.logits import logits_of

BATCH_SIZE = 64


@dataclass(frozen=True)
class Prediction:
    """What a model answers for one image."""

    image: Path
    frame: str | None
    """Number of the frame, from 0, of a DICOM file that holds several."""
    answer: str
    """The class at the model's operating threshold."""
    probabilities: tuple[float, ...]
    """Of the classes, in the order of the card."""
    probability: float
    """Of the positive class."""
    few_levels: int | None = None
    """Gray levels that the image keeps, where these are so few that some may be lost."""
    pictures: int = 1
    """Pages or frames of a picture file, of which only the first is read."""
    range_remark: str | None = None
    """Where its values do not fit the range in the model's card."""

    @property
    def name(self) -> str:
        return str(self.image) if self.frame is None else f"{self.image}#{self.frame}"

    def remarks(self, card: ModelCard) -> list[str]:
        """What one should know of the image, in parts of sentences that follow its name; often there is none."""
        remarks = []
        if self.pictures > 1:
            remarks.append(f"holds {self.pictures} pages or frames; only the first is read")
        if self.range_remark is not None:
            remarks.append(self.range_remark)
        if self.few_levels is not None:
            check = "check that it was saved with all of them"
            if card.value_range is not None:
                check = f"compare its values with {ValueRange(*card.value_range)}, the range in the model's card"
            remarks.append(f"keeps only {self.few_levels} of 256 gray levels; {check}")
        return remarks


def predict(
    path: Path,
    images: Sequence[Path],
    trusted: str | None = None,
    on_progress: Callable[[str], object] = lambda _: None,
) -> tuple[ModelCard, list[Prediction]]:
    """What a checkpoint of ours answers for image files and for the images in folders.

    Args:
        images: files and folders, as for `find_images`.
        trusted: as for `load_model`.
        on_progress: gets a sentence about files in the folders that are left out, if there are any.

    Raises:
        MirstError: a checkpoint or image that cannot be read, a path that does not exist, a folder without images, or
            an image for which the model has no finite logits.
    """
    model, card = load_model(path, trusted)
    files, left_out = find_images(images)
    if left_out:
        names = ", ".join(map(str, left_out[:3])) + (", ..." if len(left_out) > 3 else "")
        on_progress(
            f"{len(left_out)} file(s) in the folders are left out, as masks by their names or as files of no format "
            f"that is read: {names}"
        )
    positive = card.classes.index(card.positive)
    predictions: list[Prediction] = []
    for begin in range(0, len(files), BATCH_SIZE):
        part = [file._replace(value_range=card.value_range) for file in files[begin : begin + BATCH_SIZE]]
        x = torch.from_numpy(load_images(part, card.size, card.channels)).float() / 255
        logits = logits_of(model, x)
        if unsure := [str(file.path) for file, row in zip(part, logits, strict=True) if not row.isfinite().all()]:
            raise MirstError(f"the model returns logits that are not finite for {', '.join(unsure)}; leave them out")
        score, answers = decide(logits, positive, card.threshold)
        columns = answers.tolist(), logits.softmax(1).tolist(), score.sigmoid().tolist()
        predictions += [
            Prediction(
                file.path,
                file.item,
                card.classes[answer],
                tuple(probabilities),
                probability,
                few_levels(decode(file)),
                picture_count(file),
                range_remark(file, card),
            )
            for file, answer, probabilities, probability in zip(part, *columns, strict=True)
        ]
    return card, predictions


def prediction_table(card: ModelCard, predictions: Sequence[Prediction]) -> pd.DataFrame:
    """One row per image: `image`, `answer` and `probability of CLASS` for each class."""
    rows = [(plain(one.name), one.answer, *one.probabilities) for one in predictions]
    return pd.DataFrame(rows, columns=["image", "answer", *(f"probability of {name}" for name in card.classes)])


def prediction_document(checkpoint: Path, card: ModelCard, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What `prediction_table` holds and the model's operating point, in values that JSON knows."""
    return {
        "model": str(checkpoint),
        "classes": list(card.classes),
        "positive": card.positive,
        "threshold": card.threshold,
        "predictions": [
            {
                "image": str(one.image),
                "frame": None if one.frame is None else int(one.frame),
                "answer": one.answer,
                "probabilities": dict(zip(card.classes, one.probabilities, strict=True)),
            }
            for one in predictions
        ],
    }
