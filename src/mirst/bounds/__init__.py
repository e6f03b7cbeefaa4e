"""Sound bounds of what a network can predict inside eps: certificates."""

from mirst.bounds.certify import METHODS, largest_certified_eps, margin_bounds, score_bounds
from mirst.bounds.graph import trace
from mirst.bounds.interval import Triple, propagate, propagate_training
from mirst.bounds.program import Program

__all__ = [
    "METHODS",
    "Program",
    "Triple",
    "largest_certified_eps",
    "margin_bounds",
    "propagate",
    "propagate_training",
    "score_bounds",
    "trace",
]
