"""A study: all of its trials, then their rows in one folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mirst.data.threads import OnStage, no_stage
from mirst.evaluation import Progress, require_bounds
from mirst.files import write_text
from mirst.nn import LoadedBackbone
from mirst.study.collect import collect, remove_partial_tables
from mirst.study.engines.base import Engine, Events, Kill
from mirst.study.engines.local import Local
from mirst.study.external_set import read_held_out
from mirst.study.identity import holds_study, open_folder, require_no_ensembles
from mirst.study.initial_model import initial_model
from mirst.study.layout import StudyFolder
from mirst.study.lock import locked, require_free
from mirst.study.post_hoc.certificates import certify_prepared
from mirst.study.post_hoc.validation import validate_on
from mirst.study.prepared import Prepared, prepare
from mirst.study.reuse import reuse_trials
from mirst.study.spec import StudySpec
from mirst.study.train_trial import TrainTrial
from mirst.study.trial import Trial, all_trials
from mirst.training import Epoch


@dataclass(frozen=True)
class Plan:
    """What a study is about to do.

    >>> Plan({"ce-fold0-seed0": "ce"}, done=4, reused=0, epochs=40, jobs=2, weights=None).pending
    {'ce-fold0-seed0': 'ce'}
    """

    pending: dict[str, str]
    """Trials to run, each with the title of its defense."""
    done: int
    """Trials that are finished: by an earlier run, or reused."""
    reused: int
    """Of those, how many were just copied from other studies."""
    epochs: int
    """Of each trial."""
    jobs: int
    """Trials at the same time."""
    weights: LoadedBackbone | None
    """What every training starts from, unless from random weights."""
    remarks: tuple[str, ...] = ()
    """What a user should know of the data, in sentences."""


@dataclass(frozen=True)
class Step:
    """What a running study reports: an epoch of a trial, or the end of a trial, or that a trial is retried.

    >>> Step("ce-fold0-seed0", epoch=None, diverged="the loss is nan").killed is None
    True
    """

    trial: str
    epoch: Epoch | None
    diverged: str | None = None
    """How the training diverged, if it did."""
    killed: str | None = None
    """How the trial's worker was killed, if it was."""
    retry: str | None = None
    """When or where the trial is tried again, if it is."""


OnStep = Callable[[Step], None]


def run_study(
    spec: StudySpec,
    out: Path,
    *,
    engine: Engine | None = None,
    on_stage: OnStage = no_stage,
    on_plan: Callable[[Plan], None] | None = None,
    on_step: OnStep | None = None,
    on_certificates: Callable[[str, Progress], None] | None = None,
    on_held_out: Callable[[str, Progress], None] | None = None,
) -> None:
    """Run every trial of `spec` that `out` does not hold yet, then gather the rows in `out`.

    A run that was killed resumes and ends with the same numbers. A trial whose training diverges, or whose worker is
    killed twice, ends without rows, and the results list it as failed. The next run tries a killed trial again.
    With `spec.certify` every model is certified afterwards, as by `certify_study`. With `spec.folds.held_out` every
    model, and the ensemble of the models of the folds, is then tested on the images that are held out of all folds, as
    by `validate_study`, into `external/held-out`.

    Args:
        engine: where the trials run; it changes no number. By default, processes on this machine.
        on_stage: gets the progress of the audit, as `audit_records`.
        on_certificates: gets the name of a trial and the progress of its certificates.
        on_held_out: gets the name of a trial and the progress of its test on the images that are held out.

    Raises:
        MirstError: data that cannot be read or split, a setting that does not fit them, an `out` that contains another
            study or ensembles or in which another process runs, a study of which every trial failed, or `spec.certify`
            for a model that cannot be certified.
        RuntimeError: as `certify_study`.
    """
    study, engine = StudyFolder(out), engine or Local()
    require_free(out)
    require_no_ensembles(study)
    with engine.connected(spec):
        parallel = engine.parallel(spec)
        prepared = prepare(spec, on_stage)
        holds_study(study, prepared)
        _require_bounds(prepared)
        held_out = None if spec.folds.held_out is None else read_held_out(prepared)
        with locked(out):
            open_folder(study, prepared)
            reused = reuse_trials(study, prepared)
            pending = pending_trials(study, spec)
            if on_plan is not None:
                on_plan(_plan(prepared, pending, reused, parallel))
            engine.run(TrainTrial(), pending, prepared, study, _events(study, on_step or (lambda _: None)))
            collect(study, all_trials(spec), prepared)
            if spec.certify:
                certify_prepared(study, prepared, engine, on_certificates)
            if held_out is not None:
                validate_on(study, prepared, held_out, engine, {"on_progress": on_held_out})
            remove_partial_tables(study, all_trials(spec))


def _require_bounds(prepared: Prepared) -> None:
    """Raise `MirstError`, before any training, if the study asks for certificates that its model cannot have."""
    spec = prepared.spec
    for drop_max in sorted({entry.drop_max for entry in spec.defenses if spec.certify}):
        model, _ = initial_model(
            spec, len(prepared.classes), drop_max, 0, prepared.weights_file, positive=prepared.positive_index
        )
        images, _ = prepared.subset(np.arange(2))[[0, 1]]
        require_bounds(model, images)


def pending_trials(study: StudyFolder, spec: StudySpec) -> list[Trial]:
    """Trials that the folder does not hold yet, in the order in which they are run."""
    pending = [trial for trial in all_trials(spec) if not study.trial(trial.name).is_done()]
    return sorted(pending, key=lambda trial: trial.fold)  # every defense early: the time left is known sooner


def _plan(prepared: Prepared, pending: list[Trial], reused: int, parallel: int) -> Plan:
    spec = prepared.spec
    return Plan(
        pending={trial.name: trial.entry.title for trial in pending},
        done=len(all_trials(spec)) - len(pending),
        reused=reused,
        epochs=spec.training.epochs,
        jobs=parallel,
        weights=prepared.weights,
        remarks=tuple(prepared.audit.remarks()),
    )


def _events(study: StudyFolder, on_step: OnStep) -> Events[str | None]:
    def on_kill(trial: Trial, kill: Kill) -> None:
        if kill.retry is None:
            write_text(study.trial(trial.name).killed, kill.reason)
        on_step(Step(trial.name, None, killed=kill.reason, retry=kill.retry))

    return Events(
        on_end=lambda trial, diverged: on_step(Step(trial.name, None, diverged)),
        on_message=lambda trial, epoch: on_step(Step(trial.name, epoch)),
        on_kill=on_kill,
    )
