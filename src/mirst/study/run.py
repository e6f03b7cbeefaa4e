"""A study: all of its trials, then their rows in one folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mirst.files import write_text
from mirst.nn import LoadedBackbone
from mirst.study.engines.base import Engine, Local, Step, Tell
from mirst.study.lock import locked, require_free
from mirst.study.prepared import prepare
from mirst.study.results import collect, holds_study, open_folder
from mirst.study.reuse import reuse_trials
from mirst.study.spec import StudySpec
from mirst.study.trial import KILLED, Trial, all_trials, is_done, trial_folder

LOCAL = Local()


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
    remarks: tuple[str, ...] = ()
    """What one should know of the data, in sentences."""


def run_study(
    spec: StudySpec,
    out: Path,
    *,
    engine: Engine = LOCAL,
    on_plan: Callable[[Plan], None] | None = None,
    on_step: Tell | None = None,
) -> None:
    """Run every trial of `spec` that `out` does not hold yet, then gather the rows in `out`.

    A run that was killed goes on where it stopped and ends with the same numbers. A trial whose training
    diverges, or whose worker is killed twice, ends alone, and is told apart in the results; the next
    run tries the killed one again.

    Args:
        engine: where the trials run; it changes no number.

    Raises:
        MirstError: data that cannot be read or split, a setting that does not fit them, an `out`
            that holds another study or in which another process runs, or a study of which every trial failed.
    """
    require_free(out)
    at_once = engine.at_once(spec)
    prepared = prepare(spec)
    holds_study(out, prepared)
    with locked(out):
        open_folder(out, prepared)
        reused = reuse_trials(out, prepared)
        trials, pending = all_trials(spec), pending_trials(out, spec)
        if on_plan is not None:
            titles = {trial.name: trial.entry.title for trial in pending}
            done, remarks = len(trials) - len(pending), tuple(prepared.audit.remarks())
            on_plan(Plan(titles, done, reused, spec.training.epochs, at_once, prepared.weights, remarks))
        engine.train(pending, prepared, out, partial(_hear, out, on_step or (lambda _: None)))
        collect(out, {trial_folder(out, trial): trial for trial in trials}, prepared)


def pending_trials(out: Path, spec: StudySpec) -> list[Trial]:
    """Trials that `out` does not hold yet, in the order in which they are run."""
    pending = [trial for trial in all_trials(spec) if not is_done(trial_folder(out, trial))]
    return sorted(pending, key=lambda trial: trial.fold)  # every defense early: the time left is known sooner


def _hear(out: Path, tell: Tell, step: Step) -> None:
    if step.killed is not None and not step.again:
        write_text(out / "trials" / step.trial / KILLED, step.killed)
    tell(step)
