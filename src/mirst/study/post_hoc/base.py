"""Something done to every model of a finished study: load it, run on the test images of its fold, save its tables."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import pandas as pd
from torch import nn
from torch.utils.data import DataLoader

from mirst.data import ImageSet, Record, data_loader
from mirst.data.image_set import Batch
from mirst.evaluation import Progress
from mirst.evaluation.progress import OnProgress, no_progress
from mirst.files import write_csv
from mirst.nn import ModelCard, load_model
from mirst.nn.device import default_device
from mirst.study.baselines import write_baselines
from mirst.study.collect import finished_trials, joined, remove_partial_tables
from mirst.study.engines.base import Engine, Events, Kill, Send, Work, refuse_kill
from mirst.study.engines.local import Local
from mirst.study.identity import open_folder
from mirst.study.layout import StudyFolder, TrialFolder
from mirst.study.prepared import EVALUATION_BATCH, Prepared, prepare
from mirst.study.results import finished_study, read_spec
from mirst.study.trial import Trial, all_trials


@dataclass(frozen=True)
class TrainedModel:
    """The model of a trial, with the test images of its fold."""

    trial: Trial
    folder: TrialFolder
    prepared: Prepared
    model: nn.Module
    """On the GPU where there is one."""
    card: ModelCard

    @property
    def images(self) -> ImageSet:
        return self.prepared.subset(self.prepared.folds[self.trial.fold].test)

    @property
    def records(self) -> list[Record]:
        return self.prepared.records_at(self.prepared.folds[self.trial.fold].test)

    def batches(self) -> DataLoader[Batch]:
        return data_loader(self.images, EVALUATION_BATCH)

    def write(self, table: str, rows: pd.DataFrame) -> None:
        """Write a table of this trial, with the columns of its key in front."""
        write_csv(self.folder.table(table), self.trial.with_key(rows))


class Analysis(Work[None]):
    """Work on a trained model. It writes its tables into the folder of the trial, and sends `Progress`."""

    @abstractmethod
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, without suffix; those of all trials are joined in the results folder."""

    def end_marks(self) -> tuple[str, ...]:
        return tuple(f"{table}.csv" for table in self.tables())

    def is_done(self, folder: TrialFolder) -> bool:
        """Whether an earlier call has finished the trial."""
        return all((folder.path / name).exists() for name in self.end_marks())

    def finish(self, study: StudyFolder, trials: Sequence[Trial], prepared: Prepared, on_progress: OnProgress) -> None:
        """What is done once, after the tables of `trials`, those that have a model, are joined; often nothing."""

    @abstractmethod
    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        """Analyse one model, and write the files of `end_marks` last."""

    def inputs(self, trial: Trial, prepared: Prepared, study: StudyFolder) -> Iterable[Path]:
        return [study.trial(trial.name).model]

    def __call__(self, trial: Trial, prepared: Prepared, study: StudyFolder, send: Send) -> None:
        folder = study.trial(trial.name)
        model, card = load_model(folder.model, prepared.spec.model.name)
        self.run(TrainedModel(trial, folder, prepared, model.to(default_device()), card), study, send)


class Options(TypedDict, total=False):
    """The keywords of `analyse`, which every public analysis of a study passes on."""

    data: Path | None
    """Where its images are now; by default, where they were then."""
    engine: Engine | None
    """Where the trials run; by default, processes on this machine."""
    on_trial: Callable[[str], None] | None
    """Gets the name of each trial that has ended."""
    on_progress: Callable[[str, Progress], None] | None
    """Gets the name of a trial and the progress of the work on its model."""


def analyse(
    analysis: Analysis,
    folder: Path,
    *,
    data: Path | None = None,
    engine: Engine | None = None,
    on_trial: Callable[[str], None] | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> StudyFolder:
    """Analyse every model of a finished study, and join the tables. Failed trials have no model.

    Trials that an earlier call has finished are not run again. The baselines are computed at the eps of the tables too.

    Raises:
        MirstError: no finished study, or other images.
    """
    study = finished_study(folder)  # damaged tables of analyses are not read, or they could not be written again
    prepared = prepare(read_spec(study).with_data(data))
    open_folder(study, prepared)
    engine = engine or Local()
    with engine.connected(prepared.spec):
        analyse_prepared(analysis, study, prepared, engine, on_trial, on_progress)
    return study


def analyse_prepared(
    analysis: Analysis,
    study: StudyFolder,
    prepared: Prepared,
    engine: Engine,
    on_trial: Callable[[str], None] | None,
    on_progress: Callable[[str, Progress], None] | None,
) -> None:
    """`analyse` with the data in memory, by a connected engine."""
    trials = finished_trials(study, all_trials(prepared.spec))
    pending = [trial for trial in trials if not analysis.is_done(study.trial(trial.name))]
    if pending:
        first = sorted(pending, key=lambda trial: trial.seed)
        engine.run(analysis, first, prepared, study, progress_events(on_trial, on_progress))
    for table in analysis.tables():
        write_csv(study.table(table), joined(study, trials, table))
    remove_partial_tables(study, trials)
    write_baselines(study, prepared)
    analysis.finish(study, trials, prepared, partial(on_progress, "baselines") if on_progress else no_progress)


def progress_events(
    on_trial: Callable[[str], None] | None, on_progress: Callable[[str, Progress], None] | None
) -> Events[None]:
    """The events of an analysis, for functions that get the names of trials."""
    return Events[None](
        on_end=lambda trial, _: on_trial(trial.name) if on_trial else None,
        on_message=lambda trial, progress: on_progress(trial.name, progress) if on_progress else None,
        on_kill=_warn_of_kill,
    )


def _warn_of_kill(trial: Trial, kill: Kill) -> None:
    refuse_kill(trial, kill)
    warnings.warn(f"trial {trial.name}: {kill.reason}; it is retried {kill.retry}", stacklevel=2)
