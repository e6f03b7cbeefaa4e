"""What an engine is: it does any work on any trials of a study, in worker processes somewhere."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mirst.errors import MirstError
from mirst.study.layout import StudyFolder, TrialFolder
from mirst.study.prepared import Prepared
from mirst.study.spec import StudySpec
from mirst.study.trial import Trial

Result = TypeVar("Result")
Send = Callable[[Any], None]
RETRY = "alone, after all others finish"


class Work(ABC, Generic[Result]):
    """What a worker does with a trial. The object is pickled and travels to the worker.

    A worker may have a results folder of its own: it sees only the files that `inputs` names, and every file that it
    writes into the folder of its trial is copied back when the work ends.
    """

    def start(self, folder: TrialFolder) -> None:
        """Make the folder of a trial ready, before the work on the trial begins."""

    def inputs(self, trial: Trial, prepared: Prepared, study: StudyFolder) -> Iterable[Path]:
        """Files in `study` that the work reads; those that do not exist are left out."""
        return ()

    def checkpoint(self, folder: TrialFolder) -> Path | None:
        """The file from which the work resumes, if it can."""
        return None

    def end_marks(self) -> tuple[str, ...]:
        """Names of the files that mark the end of the work; they are copied back last."""
        return ()

    @abstractmethod
    def __call__(self, trial: Trial, prepared: Prepared, study: StudyFolder, send: Send) -> Result:
        """Do the work on `trial` and return its result. `send` passes messages to `Events.on_message`."""


@dataclass(frozen=True)
class Kill:
    """A worker was killed, ran out of memory, or lost its machine."""

    reason: str
    retry: str | None
    """When or where the trial is tried again; `None`: it is given up."""


def refuse_kill(trial: Trial, kill: Kill) -> None:
    """Give up the whole work when a trial is given up.

    Raises:
        MirstError: the trial is not tried again.
    """
    if kill.retry is None:
        raise MirstError(
            f"trial {trial.name}: {kill.reason}; run the same command again to resume, with --jobs 1 if memory is short"
        )


@dataclass(frozen=True)
class Events(Generic[Result]):
    """What an engine calls while it runs, in the process that started it."""

    on_end: Callable[[Trial, Result], None]
    """Gets each trial with the result of its work."""
    on_message: Callable[[Trial, Any], None] = lambda trial, message: None
    """Gets what the work on a trial sends."""
    on_kill: Callable[[Trial, Kill], None] = refuse_kill


@dataclass(frozen=True)
class Job(Generic[Result]):
    """A work with all that it needs."""

    work: Work[Result]
    prepared: Prepared
    study: StudyFolder


OnKill = Callable[[Trial, str], None]
Round = Callable[[Sequence[Trial], bool, OnKill], None]
"""Does the work on trials, one at a time if the second argument is true; the third hears of killed workers."""


class Engine(ABC):
    """Runs any work on any trials. Every worker has the study's number of threads, so no engine changes a number.

    >>> from mirst.study import ENGINES
    >>> "local" in ENGINES
    True
    """

    @contextmanager
    def connected(self, spec: StudySpec) -> Iterator[None]:
        """Inside the block, the engine can run work of this study.

        Raises:
            MirstError: the engine cannot be reached.
        """
        yield

    @abstractmethod
    def parallel(self, spec: StudySpec) -> int:
        """Number of trials that run at the same time.

        Raises:
            MirstError: the settings of the engine allow none.
        """

    def run(
        self,
        work: Work[Result],
        trials: Sequence[Trial],
        prepared: Prepared,
        study: StudyFolder,
        events: Events[Result],
    ) -> None:
        """Do `work` on every trial, several at a time.

        A trial whose worker is killed or runs out of memory is retried alone after all others finish, because lack of
        memory is the usual cause. If its worker is killed again, the trial is given up. A KeyboardInterrupt lets
        every worker finish its step and save it.

        Raises:
            MirstError: as `work`, with the name of the trial; or as `events.on_kill`.
        """
        do_round = self.open_round(Job(work, prepared, study), events)
        killed: list[Trial] = []

        def retry_later(trial: Trial, reason: str) -> None:
            events.on_kill(trial, Kill(reason, RETRY))
            killed.append(trial)

        def give_up(trial: Trial, reason: str) -> None:
            events.on_kill(trial, Kill(f"its worker failed twice: {reason}", None))

        do_round(trials, False, retry_later)
        do_round(killed, True, give_up)

    @abstractmethod
    def open_round(self, job: Job[Result], events: Events[Result]) -> Round:
        """The function that does the work on a list of trials."""


def named(error: Exception, trial: Trial) -> Exception:
    """The error of a worker to raise again; the name of the trial precedes a message of `MirstError`."""
    if not isinstance(error, MirstError):
        return error
    message = MirstError(f"trial {trial.name}: {error}")
    message.__cause__ = error
    return message
