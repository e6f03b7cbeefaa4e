"""One model of a study, trained on some of its images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mirst.data import data_loader
from mirst.nn import BoxFusion, ModelCard
from mirst.nn.device import default_device
from mirst.study.box_regression import box_regression
from mirst.study.initial_model import channels_of, initial_model
from mirst.study.named_configs import NamedDefense
from mirst.study.prepared import EVALUATION_BATCH, Prepared, training_shares
from mirst.training import Epoch, FitResult, fit


def train_model(
    entry: NamedDefense,
    prepared: Prepared,
    indices: NDArray[np.int64],
    seed: int,
    state: Path,
    on_epoch: Callable[[Epoch], None],
) -> tuple[nn.Module, FitResult]:
    """Train a model on the records at `indices`, some of which are held out for validation.

    Args:
        state: checkpoint of the training; if it exists, the training resumes from it.
    """
    spec = prepared.spec
    settings = spec.training
    model, _ = initial_model(
        spec,
        len(prepared.classes),
        entry.drop_max,
        seed,
        prepared.weights_file,
        positive=prepared.positive_index,
        defense=entry.defense,
    )
    model.to(default_device())
    own, held_out = training_shares(prepared, indices)
    if isinstance(model, BoxFusion):
        model.set_box(box_regression(prepared, own))
    result = fit(
        model,
        data_loader(prepared.subset(own, settings.augmentation), settings.batch_size, shuffle=True),
        entry.defense,
        val=data_loader(prepared.subset(held_out), EVALUATION_BATCH) if len(held_out) else None,
        settings=settings,
        positive=prepared.positive_index,
        seed=seed,
        checkpoint=state,
        on_epoch=on_epoch,
        extensions=settings.loop_extensions,
    )
    return model, result


def model_card(entry: NamedDefense, prepared: Prepared, result: FitResult) -> ModelCard:
    """What the checkpoint of the trained model says of it."""
    return ModelCard(
        model=prepared.spec.model.name,
        options=prepared.spec.model.options,
        drop_max=entry.drop_max,
        channels=channels_of(prepared.spec),
        size=prepared.spec.data.size,
        classes=prepared.classes,
        positive=prepared.positive,
        threshold=result.threshold,
        threshold_rule=result.threshold_rule,
        defense=repr(entry.defense),
        value_range=prepared.audit.found.value_range,
        view=prepared.spec.data.view,
        margin=prepared.spec.data.margin,
        without_box=prepared.spec.data.without_box,
        modality=prepared.spec.data.modality,
        box=prepared.spec.model.box,
        bound=prepared.spec.model.bound,
    )
