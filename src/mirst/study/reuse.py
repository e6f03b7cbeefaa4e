"""Trials that another study has run already."""

import os
import shutil
from pathlib import Path

from mirst.study.results import read_spec, same_trials
from mirst.study.trial import Prepared, Trial, all_trials, is_done, trial_folder


def reuse_trials(out: Path, prepared: Prepared) -> int:
    """Copy into `out` the trials that a study in `spec.reuse` has finished, each as a whole.

    Returns:
        How many were copied.
    """
    found = reusable_trials(out, prepared)
    for trial, source in found.items():
        _copy(source, trial_folder(out, trial))
    return len(found)


def reusable_trials(out: Path, prepared: Prepared) -> dict[Trial, Path]:
    """Trials that `out` lacks and a study in `spec.reuse` has finished, each with its folder there.

    A study is reused only where everything that decides the numbers of a trial is equal: images,
    groups, folds, model, initial weights, training, attacks, and the defense itself.
    """
    found: dict[Trial, Path] = {}
    wanted = [trial for trial in all_trials(prepared.spec) if not is_done(trial_folder(out, trial))]
    for folder in prepared.spec.reuse:
        if folder.resolve() != out.resolve() and same_trials(folder, prepared):
            there = set(all_trials(read_spec(folder)))
            for trial in wanted:
                source = trial_folder(folder, trial)
                if trial in there and is_done(source):
                    found.setdefault(trial, source)
    return found


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns("corruptions.csv"))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
