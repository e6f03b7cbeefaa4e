"""What the page shows beside its tables: curves, matrices, calibration, and the images that are turned."""

from typing import Any

from mirst.report.calibration import calibrations
from mirst.report.confusion import confusions
from mirst.report.eps_curve import eps_curve
from mirst.report.gallery import galleries
from mirst.report.operating_point import operating_points
from mirst.report.training import training_curves
from mirst.study import Results


def evidence(results: Results) -> dict[str, Any]:
    """By the name under which the templates know it."""
    return {
        "eps_curve": eps_curve(results),
        "training": training_curves(results),
        "galleries": galleries(results),
        "confusions": confusions(results),
        "calibrations": calibrations(results),
        "operating_points": operating_points(results),
        "threshold": results.spec.training.threshold,
    }
