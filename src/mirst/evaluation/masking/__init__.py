"""Whether a robustness number may be an artefact of gradient masking."""

from mirst.evaluation.masking.from_model import (
    Check,
    Verdict,
    finite_differences,
    gradients,
    more_steps,
    noise,
    one_step,
    repeatable,
    tolerance,
    unbounded,
)
from mirst.evaluation.masking.from_results import budget, check_masking, gradient_free, overall, rising_eps, transfer

__all__ = [
    "Check",
    "Verdict",
    "budget",
    "check_masking",
    "finite_differences",
    "gradient_free",
    "gradients",
    "more_steps",
    "noise",
    "one_step",
    "overall",
    "repeatable",
    "rising_eps",
    "tolerance",
    "transfer",
    "unbounded",
]
