"""Extensions of the training loop. `EXTENSIONS` names them for YAML."""

from mirst.training.extensions.awp import AWP
from mirst.training.extensions.base import Extension
from mirst.training.extensions.ema import EMA

EXTENSIONS: dict[str, type[Extension]] = {"ema": EMA, "awp": AWP}
"""Extensions by the name that a study uses."""

__all__ = ["AWP", "EMA", "EXTENSIONS", "Extension"]
