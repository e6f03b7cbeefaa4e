"""Where the trials of a study run, and what they tell meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mirst.study.engines.local import default_jobs, over_trials
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared, Trial, run_trial, trial_folder
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
    again: str | None = None
    """How the trial goes on then, if it does."""


Tell = Callable[[Step], None]


class Engine(Protocol):
    """Runs trials, each in a process of its own thread count, so that no engine changes a number."""

    def at_once(self, spec: StudySpec) -> int:
        """Trials at a time.

        Raises:
            MirstError: none at all.
        """
        ...

    def train(self, trials: Sequence[Trial], prepared: Prepared, out: Path, tell: Tell) -> None:
        """Run the trials; the files of each appear in its folder in `out`.

        A trial whose worker is killed, or runs out of memory, goes on from its last checkpoint, alone, when all others
        have ended; killed again, it is given up.

        Raises:
            MirstError: what a trial raised, with its name.
        """
        ...


@dataclass(frozen=True)
class Local:
    """Processes on this machine."""

    jobs: int | None = None
    """Trials at a time; as many as the cores allow, or one on a GPU, by default."""

    def at_once(self, spec: StudySpec) -> int:
        return default_jobs(spec, self.jobs)

    def train(self, trials: Sequence[Trial], prepared: Prepared, out: Path, tell: Tell) -> None:
        over_trials(
            trials,
            prepared,
            partial(_train, out),
            self.at_once(prepared.spec),
            tell,
            on_end=lambda trial, diverged: tell(Step(trial.name, None, diverged)),
            on_kill=lambda trial, reason, again: tell(kill_step(trial, reason, again)),
        )


def kill_step(trial: Trial, reason: str, again: bool) -> Step:
    """The step of a killed worker; the second time the trial is given up."""
    if again:
        return Step(trial.name, None, killed=reason, again="alone when the others have ended")
    return Step(trial.name, None, killed=f"its worker was twice {reason}")


def _train(out: Path, trial: Trial, prepared: Prepared, tell: Tell) -> str | None:
    return run_trial(trial, prepared, trial_folder(out, trial), lambda epoch: tell(Step(trial.name, epoch)))
