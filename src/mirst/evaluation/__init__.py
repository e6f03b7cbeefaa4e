"""Evaluation of a model under attack: one row per image and attack, every claim of an attack recomputed."""

from mirst.evaluation.budget import weak_budget
from mirst.evaluation.certificates import certify, named_certificates, require_bounds, require_certificates_hold
from mirst.evaluation.certified_metrics import certified_rows, two_sided, with_attacks
from mirst.evaluation.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    corrupt,
    corruption_set,
    corruptions_of,
    evaluate_corruptions,
)
from mirst.evaluation.distance_search import LARGEST, Distances, curve, distances, named_distances
from mirst.evaluation.images_for_model import DataWarning
from mirst.evaluation.intervals import (
    Difference,
    Interval,
    class_intervals,
    holm,
    interval,
    paired_difference,
    unpaired_difference,
)
from mirst.evaluation.judge import decide
from mirst.evaluation.masking.certified_checks import settled
from mirst.evaluation.masking.check import Check, overall
from mirst.evaluation.misplaced_boxes import evaluate_boxes
from mirst.evaluation.model_checks import ModelWarning, inspect_model
from mirst.evaluation.on_dataset import (
    attacked_auc,
    boxes_on,
    certify_on,
    corrupt_on,
    distances_on,
    evaluate_on,
    metrics_of,
    named_rows,
    open_model,
    robustness_on,
)
from mirst.evaluation.outcomes import CLEAN, evaluate
from mirst.evaluation.predictions import Prediction, predict, prediction_document, prediction_table
from mirst.evaluation.progress import Progress
from mirst.evaluation.suite_run import Robustness, checked_eps, robustness
from mirst.evaluation.suites import SuiteName
from mirst.evaluation.witnesses import Witnesses, find_witnesses, witness_images
from mirst.metrics import AUC_ATTACKED, METRICS, Metric, classification_metrics

__all__ = [
    "AUC_ATTACKED",
    "CLEAN",
    "CORRUPTIONS",
    "LARGEST",
    "METRICS",
    "SEVERITIES",
    "Check",
    "DataWarning",
    "Difference",
    "Distances",
    "Interval",
    "Metric",
    "ModelWarning",
    "Prediction",
    "Progress",
    "Robustness",
    "SuiteName",
    "Witnesses",
    "attacked_auc",
    "boxes_on",
    "certified_rows",
    "certify",
    "certify_on",
    "checked_eps",
    "class_intervals",
    "classification_metrics",
    "corrupt",
    "corrupt_on",
    "corruption_set",
    "corruptions_of",
    "curve",
    "decide",
    "distances",
    "distances_on",
    "evaluate",
    "evaluate_boxes",
    "evaluate_corruptions",
    "evaluate_on",
    "find_witnesses",
    "holm",
    "inspect_model",
    "interval",
    "metrics_of",
    "named_certificates",
    "named_distances",
    "named_rows",
    "open_model",
    "overall",
    "paired_difference",
    "predict",
    "prediction_document",
    "prediction_table",
    "require_bounds",
    "require_certificates_hold",
    "robustness",
    "robustness_on",
    "settled",
    "two_sided",
    "unpaired_difference",
    "weak_budget",
    "with_attacks",
    "witness_images",
]
