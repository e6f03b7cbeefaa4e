"""Sound bounds of what a network can answer inside eps: certificates."""

from mirst.bounds.graph import Program, trace
from mirst.bounds.interval import Triple, propagate, propagate_training

__all__ = ["Program", "Triple", "propagate", "propagate_training", "trace"]
