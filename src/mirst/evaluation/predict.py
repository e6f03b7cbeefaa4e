"""A checkpoint of ours on image files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mirst.data import find_images, load_images
from mirst.errors import plain
from mirst.evaluation.evaluate import decide
from mirst.nn import ModelCard, load_model

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

    @property
    def name(self) -> str:
        return str(self.image) if self.frame is None else f"{self.image}#{self.frame}"


def predict(
    path: Path, images: Sequence[Path], trusted: str | None = None, tell: Callable[[str], object] = lambda _: None
) -> tuple[ModelCard, list[Prediction]]:
    """What a checkpoint of ours answers for image files and for the images in folders.

    Args:
        images: files and folders, as for `find_images`.
        trusted: as for `load_model`.
        tell: gets a sentence about files in the folders that are left out, if there are any.

    Raises:
        MirstError: a checkpoint or image that cannot be read, a path that does not exist, or a folder without images.
    """
    model, card = load_model(path, trusted)
    files, left_out = find_images(images)
    if left_out:
        names = ", ".join(map(str, left_out[:3])) + (", ..." if len(left_out) > 3 else "")
        tell(f"{len(left_out)} file(s) in the folders are left out, being masks or no images by their names: {names}")
    positive = card.classes.index(card.positive)
    predictions: list[Prediction] = []
    for begin in range(0, len(files), BATCH_SIZE):
        part = files[begin : begin + BATCH_SIZE]
        x = torch.from_numpy(load_images(part, card.size, card.channels)).float() / 255
        with torch.no_grad():
            logits = model(x)
        score, answers = decide(logits, positive, card.threshold)
        columns = answers.tolist(), logits.softmax(1).tolist(), score.sigmoid().tolist()
        predictions += [
            Prediction(file.path, file.item, card.classes[answer], tuple(probabilities), probability)
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
