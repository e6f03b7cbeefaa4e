"""The models of a finished study under natural corruptions of their own test folds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from mirst.data import data_loader
from mirst.evaluation import Progress, evaluate_corruptions
from mirst.files import write_csv
from mirst.nn import load_model
from mirst.study.prepared import prepare
from mirst.study.results import open_folder, read_results
from mirst.study.trial import EVALUATION_BATCH, Prepared, Trial, all_trials, conditions, failure, trial_folder


def corrupt_study(
    folder: Path,
    data: Path | None = None,
    on_trial: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[str, Progress], None] = lambda trial, progress: None,
) -> Path:
    """Write `corruptions.csv`: metrics per trial, corruption and severity; trials that failed have none.

    Trials that an earlier call has finished are not run again.

    Args:
        folder: results folder of a finished study.
        data: where its images lie now; where they lay then, by default.
        on_trial, on_progress: as for `attack_study`.

    Raises:
        MirstError: no finished study, or other images.
    """
    prepared = prepare(read_results(folder).spec.with_data(data))
    open_folder(folder, prepared)
    tables = []
    for trial in all_trials(prepared.spec):
        if failure(trial_folder(folder, trial)):
            continue
        path = trial_folder(folder, trial) / "corruptions.csv"
        if not path.exists():
            with conditions(prepared.spec):
                write_csv(
                    path, _trial_table(trial, trial_folder(folder, trial), prepared, partial(on_progress, trial.name))
                )
        on_trial(trial.name)
        tables.append(pd.read_csv(path))
    write_csv(folder / "corruptions.csv", pd.concat(tables))
    return folder / "corruptions.csv"


def _trial_table(trial: Trial, folder: Path, prepared: Prepared, tell: Callable[[Progress], None]) -> pd.DataFrame:
    model, card = load_model(folder / "model.safetensors", prepared.spec.model.name)
    test = data_loader(prepared.subset(prepared.folds[trial.fold].test), EVALUATION_BATCH)
    table = evaluate_corruptions(
        model,
        test,
        prepared.classes,
        prepared.positive,
        threshold=card.threshold,
        seed=trial.seed,
        check=False,
        on_progress=tell,
    )
    for place, (name, value) in enumerate(trial.key().items()):
        table.insert(place, name, value)
    return table
