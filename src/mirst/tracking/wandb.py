"""Runs of Weights & Biases."""

import hashlib
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirst.errors import MirstError
from mirst.tracking.base import Scalar, TrialTracker


class WandB(TrialTracker):
    """A run for each trial, in the project mirst and a group with the name of the results folder.

    Runs are written to `wandb/` in the results folder, and nothing is sent: `wandb sync` uploads them later. With
    `WANDB_MODE=online` they are sent while the study runs. The test metrics are in the summary of a run.

    Raises:
        ImportError: wandb is not installed.
    """

    def __init__(self, folder: Path) -> None:
        import wandb  # noqa: F401

        super().__init__(folder)
        self._runs = dict[str, Any]()

    def begin(self, trial: str) -> None:
        import wandb

        own = hashlib.sha256(trial.encode()).hexdigest()[:8]
        for earlier in (self.study.path / "wandb").glob(f"offline-run-*-{own}-*"):
            shutil.rmtree(earlier)
        settings = wandb.Settings(
            mode=os.environ.get("WANDB_MODE", "offline"),
            root_dir=str(self.study.path.absolute()),
            console="off",  # or the progress bars of the study would be copied
            silent=True,
            disable_git=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,  # it names the machine and its user
        )
        try:
            self._runs[trial] = wandb.init(
                project="mirst",
                group=self.study.path.absolute().name,
                name=trial,
                id=f"{own}-{time.time_ns():x}",
                reinit="create_new",  # trials run at the same time
                settings=settings,
            )
        except wandb.Error as error:
            raise MirstError(f"--track wandb: Weights & Biases cannot start a run ({error})") from error

    def write(self, trial: str, scalars: Sequence[Scalar]) -> None:
        steps = defaultdict[int, dict[str, float]](dict)
        for tag, value, step in scalars:
            steps[step][tag] = value
        self._runs[trial].summary.update(steps.pop(0, {}))
        for step, values in steps.items():
            self._runs[trial].log(values, step=step)

    def end(self, trial: str, failed: bool) -> None:
        self._runs.pop(trial).finish(exit_code=int(failed))
