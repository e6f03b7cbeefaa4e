"""How far a study is, read from its folder alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirst.errors import MirstError
from mirst.study.history import epochs_so_far
from mirst.study.layout import StudyFolder, TrialFolder
from mirst.study.lock import Holder, holder
from mirst.study.origin import origin_of
from mirst.study.results import read_run, read_spec
from mirst.study.trial import all_trials


@dataclass(frozen=True)
class TrialStatus:
    """One trial.

    >>> TrialStatus("ce-fold0-seed0", "running", epochs=12).state
    'running'
    """

    trial: str
    state: Literal["done", "diverged", "killed", "running", "waiting"]
    """`running`: it runs now, or it was interrupted and the next run resumes it. An ensemble, which is not trained, is
    `waiting` until it is done."""
    epochs: int
    """Trained by now."""
    reason: str | None = None
    """How its training diverged or its worker was killed, if so."""


@dataclass(frozen=True)
class Status:
    """A study.

    >>> Status(None, 40, [TrialStatus("ce-fold0-seed0", "done", 40)]).trials[0].epochs
    40
    """

    holder: Holder | None
    """Who runs it now."""
    epochs: int
    """Of each trial."""
    trials: list[TrialStatus]


def study_status(folder: str | Path) -> Status:
    """Which trials of the study in `folder` are done, running, diverged, killed and waiting.

    Raises:
        MirstError: no study there, or one of another version.
    """
    study = StudyFolder(Path(folder))
    if not study.run.is_file():
        raise MirstError(f"{folder} does not contain a study; give the results folder of mirst run")
    try:
        spec = read_spec(study)
    except (OSError, ValueError) as error:
        raise MirstError(f"{folder} contains a study that this version cannot read; see its study.yaml") from error
    trained = origin_of(read_run(study)) is None
    trials = [_status_of(trial.name, study.trial(trial.name), trained) for trial in all_trials(spec)]
    return Status(holder(study.path), spec.training.epochs, trials)


def _status_of(trial: str, folder: TrialFolder, trained: bool) -> TrialStatus:
    epochs = len(epochs_so_far(folder))  # first: the trial may end at this moment
    diverged, killed = folder.divergence(), folder.killing()
    if folder.is_done():
        return TrialStatus(trial, "diverged" if diverged else "done", epochs, diverged)
    if killed is not None:
        return TrialStatus(trial, "killed", epochs, killed)
    return TrialStatus(trial, "running" if trained and folder.path.exists() else "waiting", epochs)
