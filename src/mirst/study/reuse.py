"""Trials that another study has run already."""

import os
import shutil
from pathlib import Path

from mirst.study.identity import same_trials
from mirst.study.layout import StudyFolder
from mirst.study.prepared import Prepared
from mirst.study.results import read_spec
from mirst.study.trial import Trial, all_trials


def reuse_trials(study: StudyFolder, prepared: Prepared) -> int:
    """Copy into the folder the trials that a study in `spec.reuse` has finished, each as a whole.

    Returns:
        How many were copied.
    """
    found = reusable_trials(study, prepared)
    for trial, source in found.items():
        _copy(source, study.trial(trial.name).path)
    return len(found)


def reusable_trials(study: StudyFolder, prepared: Prepared) -> dict[Trial, Path]:
    """Trials that the folder lacks and a study in `spec.reuse` has finished, each with its folder there.

    A study is reused only where everything that decides the numbers of a trial is equal: images,
    groups, folds, model, initial weights, training, attacks, and the defense itself.
    """
    found: dict[Trial, Path] = {}
    wanted = [trial for trial in all_trials(prepared.spec) if not study.trial(trial.name).is_done()]
    for path in prepared.spec.reuse:
        other = StudyFolder(path)
        if path.resolve() != study.path.resolve() and same_trials(other, prepared):
            there = set(all_trials(read_spec(other)))
            for trial in wanted:
                source = other.trial(trial.name)
                if trial in there and source.is_done():
                    found.setdefault(trial, source.path)
    return found


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns("corruptions.csv"))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
