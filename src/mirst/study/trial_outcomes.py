"""The outcome rows, the example images and the model card of a trial."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from mirst.data import data_loader
from mirst.evaluation import evaluate, named_rows
from mirst.evaluation.progress import OnProgress, no_progress
from mirst.files import atomic
from mirst.nn.device import device_of
from mirst.study.layout import TrialFolder
from mirst.study.model_card import write_card
from mirst.study.prepared import EVALUATION_BATCH, Prepared
from mirst.study.trial import Trial


def outcome_rows(
    model: nn.Module,
    prepared: Prepared,
    indices: NDArray[np.int64],
    threshold: float,
    seed: int,
    on_progress: OnProgress = no_progress,
) -> pd.DataFrame:
    """`source, image, group, label, attack, eps, prediction, score, linf`, classes by name."""
    attacks = {entry.label: entry.attack for entry in prepared.spec.attacks}
    data = data_loader(prepared.subset(indices), EVALUATION_BATCH)
    rows = evaluate(
        model,
        data,
        attacks,
        positive=prepared.positive_index,
        threshold=threshold,
        seed=seed,
        check=False,
        on_progress=lambda progress: on_progress(progress._replace(images=len(indices))),
    )
    return named_rows(rows, prepared.records_at(indices), prepared.classes)


def write_trial_card(
    trial: Trial, prepared: Prepared, folder: TrialFolder, history: pd.DataFrame | None, rows: pd.DataFrame
) -> None:
    """Write the model card with the metrics of the outcome rows `rows`; an ensemble has no `history`."""
    indices = prepared.folds[trial.fold].train
    split = f"the test images of fold {trial.fold} of {prepared.spec.folds.count}"
    write_card(folder.model, trial.name, trial.entry, prepared, indices, history, trial.seed, rows, split)


def save_examples(
    folder: TrialFolder, model: nn.Module, prepared: Prepared, test: NDArray[np.int64], rows: pd.DataFrame
) -> None:
    """Save two test images of the positive class and two others, clean and under each attack.

    They are the first ones that the model classifies correctly without an attack, as far as there are any: an attack
    shows nothing on the others.

    Args:
        rows: outcome rows of the images at `test`.
    """
    clean = rows[rows["attack"] == "none"]
    correct = (clean["label"] == clean["prediction"]).to_numpy()
    chosen = _first_of_each_side(prepared, test[np.argsort(~correct, kind="stable")])
    x, y = prepared.subset(chosen)[list(range(len(chosen)))]
    device = device_of(model)
    attacked = [entry.attack(model, x.to(device), y.to(device)).cpu() for entry in prepared.spec.attacks]
    with atomic(folder.examples) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            images=np.array([record.name for record in prepared.records_at(chosen)]),
            attacks=np.array([entry.label for entry in prepared.spec.attacks]),
            clean=x.numpy(),
            attacked=torch.stack(attacked).numpy(),
        )


def _first_of_each_side(prepared: Prepared, ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    is_positive = prepared.labels[ordered] == prepared.positive_index
    sides: Sequence[NDArray[np.int64]] = (ordered[is_positive][:2], ordered[~is_positive][:2])
    return np.concatenate(sides)
