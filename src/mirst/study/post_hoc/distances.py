"""The smallest eps that breaks each test image of a finished study, by the model of its fold."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mirst.data import data_loader
from mirst.evaluation import Progress, distances, named_distances
from mirst.files import atomic, write_csv
from mirst.nn import load_model
from mirst.nn.device import default_device
from mirst.study.engines.local import default_jobs, over_trials
from mirst.study.prepared import prepare
from mirst.study.results import open_folder, read_results
from mirst.study.trial import EVALUATION_BATCH, Prepared, Trial, all_trials, failure, trial_folder

PICTURES = 12
"""Broken images of the positive class that are kept of each trial."""


def measure_distances(
    folder: Path,
    *,
    data: Path | None = None,
    jobs: int | None = None,
    on_trial: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[str, Progress], None] = lambda trial, progress: None,
) -> Path:
    """Write `distances.csv` into the results folder: a row per trial and test image, as `named_distances`.

    Each trial's folder gets the images of the positive class that break first, in `distances.npz`:
    `rows` (of the trial's `distances.csv`), `clean` and `perturbation`, each `(N, C, H, W)`. Trials that
    an earlier call has finished are not run again; those that failed have no model.

    Args:
        folder: results folder of a finished study.
        data: where its images lie now; where they lay then, by default.
        jobs: trials at a time; as many as the cores allow, by default.
        on_trial, on_progress: as for `attack_study`.

    Raises:
        MirstError: no finished study, or other images.
    """
    prepared = prepare(read_results(folder).spec.with_data(data))
    open_folder(folder, prepared)
    trials = [trial for trial in all_trials(prepared.spec) if not failure(trial_folder(folder, trial))]
    over_trials(
        [trial for trial in trials if not (trial_folder(folder, trial) / "distances.csv").exists()],
        prepared,
        partial(_measure, folder),
        default_jobs(prepared.spec, jobs),
        lambda message: on_progress(*message),
        lambda trial, _: on_trial(trial.name),
    )
    files = [trial_folder(folder, trial) / "distances.csv" for trial in trials]
    write_csv(folder / "distances.csv", pd.concat(pd.read_csv(f, dtype=str, keep_default_na=False) for f in files))
    return folder / "distances.csv"


def _measure(out: Path, trial: Trial, prepared: Prepared, tell: Callable[[Any], None]) -> None:
    folder, test = trial_folder(out, trial), prepared.folds[trial.fold].test
    model, card = load_model(folder / "model.safetensors", prepared.spec.model.name)
    model.to(default_device())
    subset = prepared.subset(test)
    found = distances(
        model,
        data_loader(subset, EVALUATION_BATCH),
        positive=prepared.positive_index,
        threshold=card.threshold,
        check=False,
        on_progress=lambda progress: tell((trial.name, progress._replace(images=len(test)))),
    )
    is_positive = found.rows["label"] == prepared.positive_index
    first = found.rows[is_positive & (found.rows["eps"] > 0)].sort_values("eps", kind="stable").index[:PICTURES]
    clean, _ = subset[list(first)]
    table = named_distances(found.rows, [prepared.records[i] for i in test], prepared.classes)
    for place, (name, value) in enumerate(trial.key().items()):
        table.insert(place, name, value)
    moved = found.images[list(first)] - clean
    with atomic(folder / "distances.npz") as target, target.open("wb") as file:
        np.savez_compressed(
            file, rows=np.array(first), clean=(255 * clean).round().byte().numpy(), perturbation=moved.half().numpy()
        )
    write_csv(folder / "distances.csv", table)  # last: it marks the end
