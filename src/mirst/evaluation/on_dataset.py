"""Evaluation of a model on a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from torch import nn
from torch.utils.data import DataLoader

from mirst.attacks import Attack, StandIns
from mirst.data import (
    MARGIN,
    Channels,
    Record,
    WithoutBox,
    data_loader,
    images_in_colour,
    positive_class,
    read_dataset,
    resolved_channels,
    with_shared_range,
)
from mirst.data.image_set import Batch
from mirst.evaluation.certificates import named_certificates
from mirst.evaluation.certified_parts import certify_in_parts
from mirst.evaluation.corruptions import evaluate_corruptions
from mirst.evaluation.distance_search import distances, named_distances
from mirst.evaluation.images_for_model import images_for_model
from mirst.evaluation.misplaced_boxes import evaluate_boxes
from mirst.evaluation.outcomes import evaluate
from mirst.evaluation.progress import OnProgress, no_progress
from mirst.evaluation.suite_run import Robustness, robustness
from mirst.evaluation.suites import SuiteName, has_drop_max
from mirst.evaluation.worst_score import require_positive
from mirst.files import cache_folder
from mirst.metrics import AUC_ATTACKED, MetricInput, named_class_scores, row_metrics
from mirst.nn import ModelCard, is_factory, load_factory, load_model
from mirst.nn.device import default_device

BATCH_SIZE = 64


def named_rows(rows: pd.DataFrame, records: Sequence[Record], classes: Sequence[str]) -> pd.DataFrame:
    """The rows of `evaluate` or `worst_case` with image and class names, source and group.

    Args:
        records: one per image position.
    """
    at = rows["image"].to_numpy()
    class_names = np.array(classes)
    named = rows.assign(
        image=[records[i].name for i in at],
        label=class_names[rows["label"]],
        prediction=class_names[rows["prediction"]],
        source=[records[i].source for i in at],
        group=[records[i].group for i in at],
    )
    named = named_class_scores(named, classes)
    front = ["source", "image", "group", "label", "attack", "eps", "prediction", "score", "linf"]
    return named[[*front, *(column for column in named if column not in front)]]


def open_model(
    name: str,
    data: Path,
    classes: Sequence[str] | None = None,
    positive: str | None = None,
    *,
    size: int = 64,
    channels: Channels = "auto",
    view: Literal["whole", "lesion"] = "whole",
    margin: float = MARGIN,
    without_box: WithoutBox = "drop",
    trusted: str | None = None,
) -> tuple[nn.Module, ModelCard]:
    """A checkpoint written by mirst, or the model of `package.module:factory`.

    Args:
        name: path or factory.
        data: the data set whose classes a factory's model predicts, in alphabetical order, unless `classes` names
            them in the order of its logits.
        positive, size, channels, view, margin, without_box: of a factory's model; a checkpoint has its own.
        trusted: the factory that a checkpoint may use, as for `load_model`.

    Raises:
        MirstError: a model that cannot be read, or classes without a positive one.
    """
    device = default_device()
    if not is_factory(name):
        model, card = load_model(name, trusted)
        return model.to(device), card
    model = load_factory(name)
    records = read_dataset(data)
    classes = tuple(classes or sorted({record.label for record in records}))
    if channels == "auto":
        files = with_shared_range([record.file for record in records])
        channels = resolved_channels(channels, images_in_colour(files), len(files))
    card = ModelCard(
        model=name,
        drop_max=has_drop_max(model),
        channels=channels,
        size=size,
        classes=classes,
        positive=positive_class(classes, positive),
        threshold=0.0,
        defense="unknown",
        view=view,
        margin=margin,
        without_box=without_box,
    )
    return model.to(device), card


def evaluate_on(
    model: nn.Module,
    card: ModelCard,
    data: Path,
    attacks: Mapping[str, Attack],
    on_progress: OnProgress = no_progress,
    *,
    auc: bool = False,
) -> pd.DataFrame:
    """Outcome rows of a model on every image of a data set, clean and under each attack.

    As all functions here, it warns of flaws of the model (`mirst.evaluation.model_checks`), and of classes that the
    model does not have (`DataWarning`): their images are left out.

    Args:
        on_progress: as in `evaluate`, with the number of images.
        auc: as in `evaluate`.

    Raises:
        MirstError: data that cannot be read, or that lack a class of the model, or a model that cannot be evaluated.
    """
    if auc:
        require_positive(card.positive)
    records, loaded = _loaded(model, card, data)
    rows = evaluate(
        model,
        loaded,
        attacks,
        positive=card.positive_index,
        threshold=card.threshold,
        auc=auc,
        on_progress=lambda progress: on_progress(progress._replace(images=len(records))),
    )
    return named_rows(rows, records, card.classes)


def corrupt_on(
    model: nn.Module,
    card: ModelCard,
    data: Path,
    on_progress: OnProgress = no_progress,
    *,
    modality: str | None = None,
) -> pd.DataFrame:
    """Metrics of a model on a data set under every natural corruption and severity.

    Args:
        modality: whose corruptions, as in `corruption_set`; by default, that of the model's training images.

    Raises:
        MirstError: as `evaluate_on`, or an unknown modality.
    """
    _, loaded = _loaded(model, card, data)
    return evaluate_corruptions(
        model,
        loaded,
        card.classes,
        card.positive,
        modality=modality or card.modality,
        threshold=card.threshold,
        on_progress=on_progress,
    )


def boxes_on(model: nn.Module, card: ModelCard, data: Path, on_progress: OnProgress = no_progress) -> pd.DataFrame:
    """Metrics of a model on a data set with misplaced boxes, as `evaluate_boxes`.

    Raises:
        MirstError: as `evaluate_on`, or a model that takes whole images.
    """
    _, images = images_for_model(model, card, data)
    return evaluate_boxes(model, images, card.classes, card.positive, threshold=card.threshold, on_progress=on_progress)


def certify_on(
    model: nn.Module,
    card: ModelCard,
    data: Path,
    eps: Sequence[float],
    method: str = "interval",
    on_progress: OnProgress = no_progress,
) -> pd.DataFrame:
    """Certificates of a model on a data set, as `named_certificates`.

    If a call is interrupted, also by a kill, the next one with the same arguments continues with the batch that was not
    finished, and has the same result. The rows of finished batches are kept in the folder of `$MIRST_CACHE` until then.

    Raises:
        MirstError: as `evaluate_on` and `certify`.
        RuntimeError: as `certify`.
    """
    records, loaded = _loaded(model, card, data)
    rows = certify_in_parts(
        cache_folder() / "certificates",
        model,
        loaded,
        eps,
        images=len(records),
        method=method,
        positive=card.positive_index,
        threshold=card.threshold,
        on_progress=on_progress,
    )
    return named_certificates(rows, records, card.classes)


def distances_on(model: nn.Module, card: ModelCard, data: Path, on_progress: OnProgress = no_progress) -> pd.DataFrame:
    """The smallest eps that makes the model misclassify each image of a data set, as `named_distances`.

    Raises:
        MirstError: as `evaluate_on`.
    """
    records, loaded = _loaded(model, card, data)
    found = distances(
        model,
        loaded,
        positive=card.positive_index,
        threshold=card.threshold,
        on_progress=lambda progress: on_progress(progress._replace(images=len(records))),
    )
    return named_distances(found.rows, records, card.classes)


def robustness_on(
    model: nn.Module,
    card: ModelCard,
    data: Path,
    suite: SuiteName,
    eps: Sequence[float],
    source: nn.Module | None = None,
    stand_ins: StandIns | None = None,
    draws: int = 1,
    on_progress: OnProgress = no_progress,
    *,
    auc: bool = False,
) -> Robustness:
    """`robustness` of a model on a data set, its rows with names.

    Raises:
        MirstError: as `evaluate_on` and `robustness`.
    """
    if auc:
        require_positive(card.positive)
    records, loaded = _loaded(model, card, data)
    found = robustness(
        model,
        list(loaded),
        suite,
        eps,
        source=source,
        stand_ins=stand_ins,
        draws=draws,
        positive=card.positive_index,
        threshold=card.threshold,
        auc=auc,
        on_progress=on_progress,
    )
    return replace(found, rows=named_rows(found.rows, records, card.classes))


def metrics_of(rows: pd.DataFrame, card: ModelCard) -> pd.DataFrame:
    """One row of metrics per attack and eps of named outcome rows, `auc_attacked` among them if they have it."""
    metrics = [
        {"attack": attack, "eps": eps} | row_metrics(part, card.classes, card.positive)
        for (attack, eps), part in rows.groupby(["attack", "eps"], sort=False)
    ]
    return pd.DataFrame(metrics)


def attacked_auc(rows: pd.DataFrame, card: ModelCard) -> float:
    """The AUC of the worst score of each image over all attacks of named outcome rows with `worst_score`.

    >>> from types import SimpleNamespace
    >>> card = SimpleNamespace(classes=("a", "b"), positive="b")
    >>> rows = pd.DataFrame({"source": "s", "image": [0, 1, 0, 1], "label": ["a", "b"] * 2, "prediction": "a"})
    >>> attacked_auc(rows.assign(score=0.0, worst_score=[0.0, 1.0, 2.0, 1.0]), card)
    0.0
    """
    sign = np.where(rows["label"] == card.positive, 1, -1)
    signed = rows.assign(worst_score=sign * rows["worst_score"])
    worst = signed.sort_values("worst_score").drop_duplicates(["source", "image"])
    score = np.where(worst["label"] == card.positive, 1, -1) * worst["worst_score"]
    given = MetricInput.of(worst["label"], worst["prediction"], score, card.classes, card.positive, worst_score=score)
    return AUC_ATTACKED.value(given)


def _loaded(model: nn.Module, card: ModelCard, data: Path) -> tuple[list[Record], DataLoader[Batch]]:
    records, images = images_for_model(model, card, data)
    return records, data_loader(images, BATCH_SIZE)
