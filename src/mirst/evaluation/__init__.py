"""Attacks run on a model, every claim re-checked, one row per image and attack."""

from mirst.evaluation.evaluate import evaluate
from mirst.evaluation.summary import summarise
from mirst.metrics import METRICS, classification_metrics

__all__ = ["METRICS", "classification_metrics", "evaluate", "summarise"]
