"""Attacks run on a model, every claim re-checked, one row per image and attack."""

from mirst.evaluation.checkpoint import Prediction, evaluate_checkpoint, named_rows, predict
from mirst.evaluation.evaluate import evaluate
from mirst.evaluation.summary import summarise
from mirst.metrics import METRICS, classification_metrics

__all__ = [
    "METRICS",
    "Prediction",
    "classification_metrics",
    "evaluate",
    "evaluate_checkpoint",
    "named_rows",
    "predict",
    "summarise",
]
