"""One plain training loop."""

from mirst.training.fit import FitResult, fit
from mirst.training.settings import Training
from mirst.training.state import Epoch

__all__ = ["Epoch", "FitResult", "Training", "fit"]
