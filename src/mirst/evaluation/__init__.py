"""Attacks run on a model, every claim re-checked, one row per image and attack."""

from mirst.evaluation.checkpoint import Prediction, corrupt_checkpoint, evaluate_checkpoint, named_rows, predict
from mirst.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt, evaluate_corruptions
from mirst.evaluation.evaluate import decide, evaluate
from mirst.evaluation.intervals import Difference, paired_difference
from mirst.evaluation.summary import summarise
from mirst.metrics import METRICS, classification_metrics

__all__ = [
    "CORRUPTIONS",
    "METRICS",
    "SEVERITIES",
    "Difference",
    "Prediction",
    "classification_metrics",
    "corrupt",
    "corrupt_checkpoint",
    "decide",
    "evaluate",
    "evaluate_checkpoint",
    "evaluate_corruptions",
    "named_rows",
    "paired_difference",
    "predict",
    "summarise",
]
