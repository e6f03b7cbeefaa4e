"""A study: all of its trials, then their rows in one folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mirst.files import write_text
from mirst.nn import LoadedBackbone
from mirst.study.lock import locked
from mirst.study.pool import default_jobs, over_trials
from mirst.study.prepare import prepare
from mirst.study.results import collect, holds_study, open_folder
from mirst.study.reuse import reuse_trials
from mirst.study.spec import StudySpec
from mirst.study.trial import KILLED, Prepared, Trial, all_trials, is_done, run_trial, trial_folder
from mirst.training import Epoch


@dataclass(frozen=True)
class Step:
    """What a running study tells: an epoch of a trial; else the trial's end, unless it goes on `again`."""

    trial: str
    epoch: Epoch | None
    diverged: str | None = None
    """How the training diverged, if it did."""
    killed: str | None = None
    """How the trial's worker was killed, if it was."""
    again: bool = False
    """Whether the trial whose worker was killed goes on, alone, when all others have ended."""


@dataclass(frozen=True)
class Plan:
    """What a study is about to do."""

    pending: dict[str, str]
    """Trials to run, each with the title of its defense."""
    done: int
    """Trials that are finished: by an earlier run, or reused."""
    reused: int
    """Of those, how many came from other studies just now."""
    epochs: int
    """Of each trial."""
    jobs: int
    weights: LoadedBackbone | None
    """What every training starts from, unless from random weights."""


def run_study(
    spec: StudySpec,
    out: Path,
    *,
    jobs: int | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> None:
    """Run every trial of `spec` that `out` does not hold yet, then gather the rows in `out`.

    Each trial runs in a process of its own thread count, so `jobs` changes no number; a run that
    was killed goes on where it stopped and ends with the same numbers. A trial whose training
    diverges, or whose worker is killed twice, ends alone, and is told apart in the results; the next
    run tries the killed one again.

    Args:
        jobs: trials at a time; as many as the cores allow, or one on a GPU, by default.

    Raises:
        MirstError: data that cannot be read or split, a setting that does not fit them, an `out`
            that holds another study or in which another process runs, or a study of which every trial failed.
    """
    jobs = default_jobs(spec, jobs)
    prepared = prepare(spec)
    holds_study(out, prepared)
    with locked(out):
        open_folder(out, prepared)
        reused = reuse_trials(out, prepared)
        trials, pending = all_trials(spec), pending_trials(out, spec)
        if on_plan is not None:
            titles = {trial.name: trial.entry.title for trial in pending}
            on_plan(Plan(titles, len(trials) - len(pending), reused, spec.training.epochs, jobs, prepared.weights))
        tell = on_step or (lambda _: None)
        over_trials(
            pending,
            prepared,
            partial(_train, out),
            jobs,
            tell,
            on_end=lambda trial, diverged: tell(Step(trial.name, None, diverged)),
            on_kill=partial(_kill, out, tell),
        )
        collect(out, {trial_folder(out, trial): trial for trial in trials}, prepared)


def pending_trials(out: Path, spec: StudySpec) -> list[Trial]:
    """Trials that `out` does not hold yet, in the order in which they are run."""
    pending = [trial for trial in all_trials(spec) if not is_done(trial_folder(out, trial))]
    return sorted(pending, key=lambda trial: trial.fold)  # every defense early: the time left is known sooner


def _kill(out: Path, tell: Callable[[Step], None], trial: Trial, reason: str, again: bool) -> None:
    if not again:
        reason = f"its worker was twice {reason}"
        write_text(trial_folder(out, trial) / KILLED, reason)
    tell(Step(trial.name, None, killed=reason, again=again))


def _train(out: Path, trial: Trial, prepared: Prepared, tell: Callable[[Step], None]) -> str | None:
    return run_trial(trial, prepared, trial_folder(out, trial), lambda epoch: tell(Step(trial.name, epoch)))
