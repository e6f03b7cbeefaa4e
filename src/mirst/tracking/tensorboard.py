"""Event files of TensorBoard."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from mirst.tracking.base import Scalar, TrialTracker


class TensorBoard(TrialTracker):
    """An event file for each trial below `tensorboard/` in the results folder.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        import tensorboard.summary.writer.record_writer  # noqa: F401

        super().__init__(folder)
        self._files = dict[str, Path]()

    def begin(self, trial: str) -> None:
        place = self.study.path / "tensorboard" / trial
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True)
        # a new name, or an open TensorBoard would continue at the end of the old file
        self._files[trial] = place / f"events.out.tfevents.{time.time_ns()}.mirst"

    def write(self, trial: str, scalars: Sequence[Scalar]) -> None:
        """Immediately, in this thread, so that the caller gets errors of the file system."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._files[trial].open("ab") as file:
            records = RecordWriter(file)
            for tag, value, step in scalars:
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                records.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())

    def end(self, trial: str, failed: bool) -> None:
        del self._files[trial]
