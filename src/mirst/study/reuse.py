"""Trials that another study has run already."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from mirst.study.results import read_spec, same_trials
from mirst.study.trial import Prepared, Trial, all_trials, is_done, trial_folder


def reuse_trials(out: Path, prepared: Prepared) -> int:
    """Copy into `out` the trials that a study in `spec.reuse` has finished, each as a whole.

    A study is reused only where everything that decides the numbers of a trial is equal: images,
    groups, folds, model, initial weights, training, attacks, and the defense itself.

    Returns:
        How many were copied.
    """
    copied = 0
    wanted = [trial for trial in all_trials(prepared.spec) if not is_done(trial_folder(out, trial))]
    for folder in prepared.spec.reuse:
        if folder.resolve() != out.resolve() and same_trials(folder, prepared):
            copied += sum(_copy(folder, out, trial) for trial in _shared(wanted, folder))
    return copied


def _shared(wanted: Iterable[Trial], folder: Path) -> list[Trial]:
    there = {(trial.entry, trial.fold, trial.seed) for trial in all_trials(read_spec(folder))}
    return [trial for trial in wanted if (trial.entry, trial.fold, trial.seed) in there]


def _copy(folder: Path, out: Path, trial: Trial) -> bool:
    source, target = trial_folder(folder, trial), trial_folder(out, trial)
    if not is_done(source) or is_done(target):
        return False
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns("corruptions.csv"))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return True
