"""The sections of a report beside its tables: curves, matrices, calibration, and the images that are flipped."""

from typing import Any

from mirst.report.calibration import calibrations
from mirst.report.confusion import confusions
from mirst.report.context import ReportContext
from mirst.report.eps_curve import eps_curve
from mirst.report.gallery import galleries
from mirst.report.operating_point import operating_points
from mirst.report.training import training_curves


def sections(context: ReportContext) -> dict[str, Any]:
    """By the name that the templates use."""
    results = context.results
    return {
        "eps_curve": eps_curve(results),
        "training": training_curves(results),
        "galleries": galleries(context),
        "confusions": confusions(context),
        "calibrations": calibrations(context),
        "operating_points": operating_points(context),
        "threshold": results.spec.training.threshold,
    }
