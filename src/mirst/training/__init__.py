"""One plain training loop."""

from mirst.training.run import FitResult, fit
from mirst.training.settings import Training
from mirst.training.simclr import SimCLR, nt_xent, ultrasound_view
from mirst.training.state import Epoch

__all__ = ["Epoch", "FitResult", "SimCLR", "Training", "fit", "nt_xent", "ultrasound_view"]
