"""What trackers share: one log for each trial, which contains every epoch once."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mirst.errors import MirstError
from mirst.study import Plan, Step
from mirst.study.history import epochs_so_far
from mirst.study.layout import StudyFolder
from mirst.study.results import read_csv
from mirst.study.summary import trial_metrics
from mirst.training import Epoch


class Scalar(NamedTuple):
    """A finite number of a trial."""

    tag: str
    value: float
    step: int
    """The epoch; 0 for metrics of the trained model."""


class Tracker(Protocol):
    """Created with the results folder of a study; receives the plan and every step of its run."""

    def plan(self, plan: Plan) -> None: ...

    def step(self, step: Step) -> None: ...


class TrialTracker(ABC):
    """A log for each trial: `loss`, `term/NAME`, `validation/clean`, `validation/attacked` and
    `validation/attacked_auc` by epoch, and at the end `test/ATTACK/METRIC`.

    The log of a trial that resumes, or was finished by an earlier run, is replaced by one that starts with its first
    epoch, so that no value is missing or duplicate. Nothing is written before the first step.

    Raises:
        ImportError: what the tracker needs is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.study = StudyFolder(folder)
        self._open = set[str]()

    @abstractmethod
    def begin(self, trial: str) -> None:
        """A new log for the trial, in place of an earlier one."""

    @abstractmethod
    def write(self, trial: str, scalars: Sequence[Scalar]) -> None:
        """Add to the log that `begin` made."""

    @abstractmethod
    def end(self, trial: str, failed: bool) -> None:
        """The trial has ended; `failed` if it diverged or was killed."""

    def plan(self, plan: Plan) -> None:
        for trial in sorted(path.name for path in (self.study.path / "trials").glob("*")):
            if trial not in plan.pending:
                self.step(Step(trial, None))

    def step(self, step: Step) -> None:
        try:
            self._step(step)
        except OSError as error:
            raise MirstError(f"cannot write what is tracked in {self.study.path} ({error.strerror})") from error

    def _step(self, step: Step) -> None:
        if step.retry:
            if step.trial in self._open:
                self._end(step.trial, failed=True)
            return
        if step.trial not in self._open:
            self._begin(step.trial, step.epoch)
        if step.epoch is not None:
            self.write(step.trial, _finite(_of_epoch(step.epoch)))
        else:
            self.write(step.trial, _finite(self._of_test(step.trial)))
            self._end(step.trial, failed=bool(step.diverged or step.killed))

    def _begin(self, trial: str, first: Epoch | None) -> None:
        """A new log with the epochs before `first`, which an earlier run trained; all of them for `None`."""
        self.begin(trial)
        self._open.add(trial)
        for epoch in epochs_so_far(self.study.trial(trial)):
            if first is None or epoch.number < first.number:
                self.write(trial, _finite(_of_epoch(epoch)))

    def _end(self, trial: str, failed: bool) -> None:
        self._open.discard(trial)
        self.end(trial, failed)

    def _of_test(self, trial: str) -> Iterator[tuple[str, float | None, int]]:
        outcomes = self.study.trial(trial).outcomes
        if not outcomes.exists():
            return
        data = json.loads(self.study.run.read_text(encoding="utf-8"))["data"]
        rows = read_csv(outcomes)
        for row in trial_metrics(rows, data["classes"], data["positive"]).to_dict("records"):
            yield f"test/{row['attack']}/{row['metric']}", row["value"], 0


def _of_epoch(epoch: Epoch) -> Iterator[tuple[str, float | None, int]]:
    yield "loss", epoch.loss, epoch.number
    yield "validation/clean", epoch.clean, epoch.number
    yield "validation/attacked", epoch.attacked, epoch.number
    yield "validation/attacked_auc", epoch.attacked_auc, epoch.number
    for name, value in epoch.terms.items():
        yield f"term/{name}", value, epoch.number


def _finite(scalars: Iterable[tuple[str, float | None, int]]) -> list[Scalar]:
    return [Scalar(tag, value, step) for tag, value, step in scalars if value is not None and math.isfinite(value)]
