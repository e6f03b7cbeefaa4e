"""How far a study is, read from its folder alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirst.errors import MirstError
from mirst.study.history import epochs_so_far
from mirst.study.lock import holder
from mirst.study.results import read_spec
from mirst.study.trial import all_trials, divergence, is_done, trial_folder


@dataclass(frozen=True)
class TrialStatus:
    trial: str
    state: Literal["done", "diverged", "begun", "waiting"]
    epochs: int
    """Trained by now."""
    reason: str | None = None
    """How its training diverged, if it did."""


@dataclass(frozen=True)
class Status:
    holder: str | None
    """Who runs it now, in words."""
    epochs: int
    """Of each trial."""
    trials: list[TrialStatus]


def study_status(folder: str | Path) -> Status:
    """What of the study in `folder` is done, begun, diverged and waiting; it may be running.

    Raises:
        MirstError: no study there.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise MirstError(f"{folder} holds no study; name the results folder of mirst run")
    spec = read_spec(folder)
    places = {trial.name: trial_folder(folder, trial) for trial in all_trials(spec)}
    return Status(holder(folder), spec.training.epochs, [_of(name, place) for name, place in places.items()])


def _of(trial: str, folder: Path) -> TrialStatus:
    epochs = len(epochs_so_far(folder))
    reason = divergence(folder)
    if reason is not None:
        return TrialStatus(trial, "diverged", epochs, reason)
    if is_done(folder):
        return TrialStatus(trial, "done", epochs)
    return TrialStatus(trial, "begun" if epochs else "waiting", epochs)
