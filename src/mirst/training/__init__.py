"""One plain training loop."""

from mirst.training.extensions import AWP, EMA, EXTENSIONS, Extension
from mirst.training.loop import FitResult, TrainingRun
from mirst.training.run import fit
from mirst.training.settings import Training
from mirst.training.simclr import SimCLR, nt_xent, ultrasound_view
from mirst.training.state import Epoch

__all__ = [
    "AWP",
    "EMA",
    "EXTENSIONS",
    "Epoch",
    "Extension",
    "FitResult",
    "SimCLR",
    "Training",
    "TrainingRun",
    "fit",
    "nt_xent",
    "ultrasound_view",
]
