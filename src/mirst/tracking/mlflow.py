"""Runs of MLflow."""

import json
import logging
import os
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mirst.errors import MirstError
from mirst.tracking.base import Scalar, TrialTracker

TRIAL, STUDY = "mirst.trial", "mirst.study"
"""Tags of a run: the name of the trial, and when its study was started."""


class MLflow(TrialTracker):
    """A run for each trial, in the experiment that has the name of the results folder.

    They are stored in `mlflow.db` in the results folder, or where `$MLFLOW_TRACKING_URI` says.

    Raises:
        ImportError: mlflow is not installed, or sqlalchemy and alembic, which its database needs.
    """

    def __init__(self, folder: Path) -> None:
        import alembic  # noqa: F401
        import mlflow.tracking  # noqa: F401
        import sqlalchemy  # noqa: F401

        super().__init__(folder)
        self._runs = dict[str, str]()

    @cached_property
    def _client(self) -> Any:
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        own = f"sqlite:///{(self.study.path.absolute() / 'mlflow.db').as_posix()}"
        return MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or own)

    @cached_property
    def _experiment(self) -> str:
        name = self.study.path.absolute().name
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def step(self, step: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            super().step(step)
        except MlflowException as error:
            raise MirstError(f"--track mlflow: MLflow cannot store trial {step.trial} ({error.message})") from error

    def begin(self, trial: str) -> None:
        started = json.loads(self.study.run.read_text(encoding="utf-8"))["started"]
        own = f"tags.`{TRIAL}` = '{trial}' and tags.`{STUDY}` = '{started}'"
        for run in self._client.search_runs([self._experiment], own):
            self._client.delete_run(run.info.run_id)
        run = self._client.create_run(self._experiment, run_name=trial, tags={TRIAL: trial, STUDY: started})
        self._runs[trial] = run.info.run_id

    def write(self, trial: str, scalars: Sequence[Scalar]) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        metrics = [Metric(scalar.tag, scalar.value, now, scalar.step) for scalar in scalars]
        self._client.log_batch(self._runs[trial], metrics=metrics)

    def end(self, trial: str, failed: bool) -> None:
        self._client.set_terminated(self._runs.pop(trial), "FAILED" if failed else "FINISHED")
