"""Progress of a running study in other programs: TensorBoard, MLflow, Weights & Biases."""

from pathlib import Path

from mirst.errors import MirstError
from mirst.tracking.base import Tracker, TrialTracker
from mirst.tracking.mlflow import MLflow
from mirst.tracking.tensorboard import TensorBoard
from mirst.tracking.wandb import WandB

__all__ = ["TRACKERS", "MLflow", "TensorBoard", "Tracker", "WandB", "open_tracker"]

TRACKERS: dict[str, type[TrialTracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}
"""By the value of `--track`, which is also the extra that installs what it needs."""


def open_tracker(name: str, folder: Path) -> Tracker:
    """The tracker of that name for the study in `folder`, which need not exist yet.

    Raises:
        MirstError: no such tracker, or what it needs is not installed.
    """
    if name not in TRACKERS:
        raise MirstError(f"--track is {name}; choose {', '.join(TRACKERS)}")
    try:
        return TRACKERS[name](folder)
    except ImportError as error:
        raise MirstError(f"--track {name} needs more packages; pip install 'mirst[{name}]'") from error
