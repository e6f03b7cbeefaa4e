"""How far a study is, read from its folder alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirst.errors import MirstError
from mirst.study.history import epochs_so_far
from mirst.study.lock import Holder, holder
from mirst.study.results import read_spec
from mirst.study.trial import all_trials, divergence, is_done, killing, trial_folder


@dataclass(frozen=True)
class TrialStatus:
    trial: str
    state: Literal["done", "diverged", "killed", "begun", "waiting"]
    """`begun`: it runs now, or was cut off and goes on with the next run."""
    epochs: int
    """Trained by now."""
    reason: str | None = None
    """How its training diverged or its worker was killed, if so."""


@dataclass(frozen=True)
class Status:
    holder: Holder | None
    """Who runs it now."""
    epochs: int
    """Of each trial."""
    trials: list[TrialStatus]


def study_status(folder: str | Path) -> Status:
    """What of the study in `folder` is done, begun, diverged, killed and waiting; it may be running.

    Raises:
        MirstError: no study there, or one of another version.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise MirstError(f"{folder} holds no study; name the results folder of mirst run")
    try:
        spec = read_spec(folder)
    except (OSError, ValueError) as error:
        raise MirstError(f"{folder} holds a study that this version cannot read; see its study.yaml") from error
    places = {trial.name: trial_folder(folder, trial) for trial in all_trials(spec)}
    return Status(holder(folder), spec.training.epochs, [_of(name, place) for name, place in places.items()])


def _of(trial: str, folder: Path) -> TrialStatus:
    epochs = len(epochs_so_far(folder))  # first: the trial may end at this moment
    diverged, killed = divergence(folder), killing(folder)
    if is_done(folder):
        return TrialStatus(trial, "diverged" if diverged else "done", epochs, diverged)
    if killed is not None:
        return TrialStatus(trial, "killed", epochs, killed)
    return TrialStatus(trial, "begun" if folder.exists() else "waiting", epochs)
