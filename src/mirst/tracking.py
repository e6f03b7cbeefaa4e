"""The numbers of a running study, sent to other programs too."""

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from mirst.errors import MirstError
from mirst.evaluation import trial_metrics
from mirst.study import Step, epochs_so_far
from mirst.training import Epoch


class Tracker(Protocol):
    """Made with the results folder of a study, told every step of its run."""

    def step(self, step: Step) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """An event file per trial below `tensorboard/` in the results folder.

    Scalars: `loss`, `term/NAME`, `validation/clean`, `validation/attacked` by epoch, and at the end
    `test/ATTACK/METRIC`. A trial that goes on after a kill is written anew from its first epoch, so that none is
    missing and none is there twice.

    Raises:
        MirstError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MirstError("--track tensorboard needs tensorboard; pip install 'mirst[tensorboard]'") from error
        self._folder, self._new_writer = folder, SummaryWriter
        self._writers: dict[str, Any] = {}

    def step(self, step: Step) -> None:
        writer = self._writers.get(step.trial) or self._open(step.trial, 0 if step.epoch is None else step.epoch.number)
        if step.epoch is not None:
            _write_epoch(writer, step.epoch)
            writer.flush()
            return
        if step.diverged is None:
            self._write_test(writer, step.trial)
        writer.close()
        self._writers.pop(step.trial)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _write_test(self, writer: Any, trial: str) -> None:
        data = json.loads((self._folder / "run.json").read_text(encoding="utf-8"))["data"]
        rows = pd.read_csv(self._folder / "trials" / trial / "outcomes.csv", keep_default_na=False)
        for row in trial_metrics(rows, data["classes"], data["positive"]).to_dict("records"):
            writer.add_scalar(f"test/{row['attack']}/{row['metric']}", row["value"])

    def _open(self, trial: str, epoch: int) -> Any:
        """A new event file with the epochs before `epoch`, which an earlier run trained; all of them for 0."""
        place = self._folder / "tensorboard" / trial
        shutil.rmtree(place, ignore_errors=True)
        writer = self._writers[trial] = self._new_writer(str(place))
        for earlier in epochs_so_far(self._folder / "trials" / trial):
            if epoch == 0 or earlier.number < epoch:
                _write_epoch(writer, earlier)
        return writer


TRACKERS: dict[str, type[TensorBoard]] = {"tensorboard": TensorBoard}


def open_tracker(name: str, folder: Path) -> Tracker:
    """The tracker of that name.

    Raises:
        MirstError: no such tracker, or what it needs is not installed.
    """
    if name not in TRACKERS:
        raise MirstError(f"--track is {name}; choose {', '.join(TRACKERS)}")
    return TRACKERS[name](folder)


def _write_epoch(writer: Any, epoch: Epoch) -> None:
    values = {"loss": epoch.loss, "validation/clean": epoch.clean, "validation/attacked": epoch.attacked}
    values |= {f"term/{name}": value for name, value in epoch.terms.items()}
    for tag, value in values.items():
        if value is not None:
            writer.add_scalar(tag, value, epoch.number)
