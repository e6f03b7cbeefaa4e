"""Predictions, as a CSV file."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor


class PredictionSaver:
    """A saver for MONAI's `ClassificationSaver`: a row per image with the probability of each class and the prediction.

    With two classes the positive one is predicted if its log-odds are above the threshold. With more, the most
    probable class is predicted.

    Args:
        path: of the CSV file; an existing file is replaced.
        classes: in the order of the logits.
        positive: one of them.
        threshold: on the log-odds of `positive`.
    """

    def __init__(self, path: str, classes: Sequence[str], positive: str, threshold: float) -> None:
        self.path = Path(path)
        self.classes = list(classes)
        self.positive = self.classes.index(positive)
        self.threshold = threshold
        self.rows: list[list[str]] = []

    def save_batch(self, logits: Tensor, meta: dict[str, Sequence[str]]) -> None:
        for image, own in zip(meta["filename_or_obj"], logits, strict=True):
            probabilities = [repr(p) for p in own.softmax(0).tolist()]
            self.rows.append([image, *probabilities, self.classes[self._predicted(own)]])

    def finalize(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["image", *self.classes, "answer"], *self.rows])
        logging.getLogger(__name__).info("%d predictions: %s", len(self.rows), self.path)
        self.rows = []

    def _predicted(self, logits: Tensor) -> int:
        if len(self.classes) > 2:
            return int(logits.argmax())
        other = 1 - self.positive
        return self.positive if logits[self.positive] - logits[other] > self.threshold else other
