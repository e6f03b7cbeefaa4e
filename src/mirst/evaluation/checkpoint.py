"""Trained checkpoints on folders and single images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from mirst.attacks import Attack
from mirst.data import ImageFile, ImageSet, Record, assign_groups, batches, load_images, prepare_images, read_dataset
from mirst.evaluation.corruptions import evaluate_corruptions
from mirst.evaluation.evaluate import decide, evaluate
from mirst.metrics import METRICS, classification_metrics
from mirst.nn import ModelCard, load_model

BATCH_SIZE = 64


@dataclass(frozen=True)
class Prediction:
    image: Path
    answer: str
    """The class at the model's operating threshold."""
    probability: float
    """Of the positive class."""


def named_rows(rows: pd.DataFrame, records: Sequence[Record], classes: Sequence[str]) -> pd.DataFrame:
    """The rows of `evaluate` with image names, class names, source and group; one record per image position."""
    at = rows["image"].to_numpy()
    class_names = np.array(classes)
    named = rows.assign(
        image=[records[i].name for i in at],
        label=class_names[rows["label"]],
        prediction=class_names[rows["prediction"]],
        source=[records[i].source for i in at],
        group=[records[i].group for i in at],
    )
    return named[["source", "image", "group", "label", "attack", "eps", "prediction", "score", "linf"]]


def evaluate_checkpoint(path: Path, data: Path, attacks: Mapping[str, Attack]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run a checkpoint of ours on every image of a data set, clean and attacked.

    Returns:
        The outcome rows (as in a study's `outcomes.csv`, without its trial columns), and one row of
        metrics per attack.

    Raises:
        MirstError: a checkpoint or data that cannot be read, or data that lack a class of the model.
    """
    model, card = _on_device(path)
    records, data_set = _data(card, data)
    positive = card.classes.index(card.positive)
    rows = evaluate(model, batches(data_set, BATCH_SIZE), attacks, positive=positive, threshold=card.threshold)
    outcomes = named_rows(rows, records, card.classes)
    metrics = [
        {"attack": attack, "eps": eps}
        | classification_metrics(part["label"], part["prediction"], part["score"], card.classes, card.positive)
        for (attack, eps), part in outcomes.groupby(["attack", "eps"], sort=False)
    ]
    return outcomes, pd.DataFrame(metrics, columns=["attack", "eps", *METRICS])


def corrupt_checkpoint(path: Path, data: Path) -> pd.DataFrame:
    """Metrics of a checkpoint of ours on a data set under every natural corruption and severity.

    Raises:
        MirstError: as `evaluate_checkpoint`.
    """
    model, card = _on_device(path)
    _, data_set = _data(card, data)
    return evaluate_corruptions(
        model, batches(data_set, BATCH_SIZE), card.classes, card.positive, threshold=card.threshold
    )


def _on_device(path: Path) -> tuple[nn.Module, ModelCard]:
    model, card = load_model(path)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), card


def _data(card: ModelCard, path: Path) -> tuple[list[Record], ImageSet]:
    records = read_dataset(path, card.classes)
    images = prepare_images([record.file for record in records], card.size, card.channels)
    labels = np.array([card.classes.index(record.label) for record in records], dtype=np.int64)
    return assign_groups(records), ImageSet(images.pixels, labels)


def predict(path: Path, images: Sequence[Path]) -> tuple[ModelCard, list[Prediction]]:
    """What a checkpoint of ours answers for single images.

    Raises:
        MirstError: a checkpoint or image that cannot be read.
    """
    model, card = load_model(path)
    x = torch.from_numpy(load_images([ImageFile(image) for image in images], card.size, card.channels)).float() / 255
    with torch.no_grad():
        score, answer = decide(model(x), card.classes.index(card.positive), card.threshold)
    return card, [
        Prediction(image, card.classes[a], p)
        for image, a, p in zip(images, answer.tolist(), score.sigmoid().tolist(), strict=True)
    ]
