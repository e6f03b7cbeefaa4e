"""Progress of a running study in other programs, such as TensorBoard."""

import json
import math
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from mirst.errors import MirstError
from mirst.study import Plan, Step
from mirst.study.history import epochs_so_far
from mirst.study.layout import StudyFolder
from mirst.study.results import read_csv
from mirst.study.summary import trial_metrics
from mirst.training import Epoch

Scalar = tuple[str, float | None, int]
"""Tag, value and step; a value of `None` is skipped."""


class Tracker(Protocol):
    """Created with the results folder of a study; receives the plan and every step of its run."""

    def plan(self, plan: Plan) -> None: ...

    def step(self, step: Step) -> None: ...


class TensorBoard:
    """An event file per trial below `tensorboard/` in the results folder.

    Scalars: `loss`, `term/NAME`, `validation/clean`, `validation/attacked` by epoch, and at the end
    `test/ATTACK/METRIC`. The file of a trial that resumes, or was finished by an earlier run, is rewritten from
    its first epoch, so that no value is missing or duplicate.

    Raises:
        MirstError: tensorboard is not installed, or an event file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import tensorboard.summary.writer.record_writer  # noqa: F401
        except ImportError as error:
            raise MirstError("--track tensorboard needs tensorboard; pip install 'mirst[tensorboard]'") from error
        self._study = StudyFolder(folder)
        self._files: dict[str, Path] = {}

    def plan(self, plan: Plan) -> None:
        for trial in sorted(path.name for path in (self._study.path / "trials").glob("*")):
            if trial not in plan.pending:
                self.step(Step(trial, None))

    def step(self, step: Step) -> None:
        try:
            self._step(step)
        except OSError as error:
            raise MirstError(f"cannot write {self._study.path / 'tensorboard'} ({error.strerror})") from error

    def _step(self, step: Step) -> None:
        if step.retry:
            self._files.pop(step.trial, None)
            return
        path = self._files.get(step.trial) or self._begin(step.trial, step.epoch)
        if step.epoch is not None:
            _append(path, _epoch_scalars(step.epoch))
        else:
            _append(path, self._test_scalars(step.trial))
            self._files.pop(step.trial)

    def _begin(self, trial: str, first: Epoch | None) -> Path:
        """A new event file with the epochs before `first`, which an earlier run trained; all of them for `None`."""
        place = self._study.path / "tensorboard" / trial
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True)
        # a new name, or an open TensorBoard would continue at the end of the old file
        path = self._files[trial] = place / f"events.out.tfevents.{time.time_ns()}.mirst"
        for epoch in epochs_so_far(self._study.trial(trial)):
            if first is None or epoch.number < first.number:
                _append(path, _epoch_scalars(epoch))
        return path

    def _test_scalars(self, trial: str) -> Iterator[Scalar]:
        outcomes = self._study.trial(trial).outcomes
        if not outcomes.exists():
            return
        data = json.loads(self._study.run.read_text(encoding="utf-8"))["data"]
        rows = read_csv(outcomes)
        for row in trial_metrics(rows, data["classes"], data["positive"]).to_dict("records"):
            yield f"test/{row['attack']}/{row['metric']}", row["value"], 0


TRACKERS: dict[str, type[TensorBoard]] = {"tensorboard": TensorBoard}


def open_tracker(name: str, folder: Path) -> Tracker:
    """The tracker of that name.

    Raises:
        MirstError: no such tracker, or what it needs is not installed.
    """
    if name not in TRACKERS:
        raise MirstError(f"--track is {name}; choose {', '.join(TRACKERS)}")
    return TRACKERS[name](folder)


def _epoch_scalars(epoch: Epoch) -> Iterator[Scalar]:
    yield "loss", epoch.loss, epoch.number
    yield "validation/clean", epoch.clean, epoch.number
    yield "validation/attacked", epoch.attacked, epoch.number
    yield "validation/attacked_auc", epoch.attacked_auc, epoch.number
    for name, value in epoch.terms.items():
        yield f"term/{name}", value, epoch.number


def _append(path: Path, scalars: Iterable[Scalar]) -> None:
    """Write immediately, in this thread, so that the caller gets errors of the file system."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    with path.open("ab") as file:
        records = RecordWriter(file)
        for tag, value, step in scalars:
            if value is not None and math.isfinite(value):
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                records.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
