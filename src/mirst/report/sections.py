"""The sections of a report, in the order of the page. Adding one takes a module, its template and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mirst.evaluation.corruptions import set_of
from mirst.report.abstention import abstention_curves, abstention_table
from mirst.report.calibration import calibrations, error_table
from mirst.report.certificates import proof_and_attack
from mirst.report.class_sets import COVERAGE, set_table
from mirst.report.classes import class_tables
from mirst.report.confusion import confusions
from mirst.report.context import ReportContext
from mirst.report.eps_curve import eps_curve
from mirst.report.external import external_validations, held_out_test
from mirst.report.gallery import galleries
from mirst.report.held_out import held_out
from mirst.report.operating_point import operating_points
from mirst.report.study_notes import decision_rule
from mirst.report.subgroups import subgroup_names, subgroups
from mirst.report.tables import box_grid, corruption_grid
from mirst.report.training import training_curves, training_time
from mirst.study import Results
from mirst.study.external_results import is_held_out

Variables = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    >>> Section("audit", "Data audit").template
    '_audit.html.j2'
    """

    name: str
    """Of the template and of the anchor."""
    heading: str
    variables: Callable[[ReportContext], Variables] = lambda context: {}
    """What the template needs beside the tables of the whole page."""

    is_shown: Callable[[Results], bool] = lambda results: True

    @property
    def template(self) -> str:
        return f"_{self.name}.html.j2"


def _operating_point(context: ReportContext) -> Variables:
    rule = context.results.spec.training.operating_point
    return {
        "operating_points": operating_points(context),
        "rule": rule,
        "decision_rule": decision_rule(context.results),
    }


def _corruptions(context: ReportContext) -> Variables:
    grid = corruption_grid(context.results, "f1", context.results.files)
    return {"corruptions": grid, "corruption_set": None if grid is None else set_of(grid.index.unique("corruption"))}


def _calibration(context: ReportContext) -> Variables:
    found = list(held_out(context))
    tables = {
        "calibration": error_table(found),
        "class-sets": set_table(found),
        "abstention": abstention_table(found),
    }
    attacks = list(dict.fromkeys(one.attack for one in found))
    shown = {attacks[0], attacks[-1]} if found else set()
    preferred = {one.defense: one.calibrated_on for one in reversed(found)}
    drawn = [one for one in found if one.attack in shown and one.calibrated_on == preferred[one.defense]]
    return {
        "calibrations": calibrations(context),
        "abstention_curves": abstention_curves(drawn),
        "held_out_tables": tables if found else {},
        "held_out_shown": {name: own.shown[own.shown["attack"].isin(shown)] for name, own in tables.items()},
        "coverage": COVERAGE,
    }


SECTIONS = (
    Section("verdict", "Verdict"),
    Section("comparison", "Comparison"),
    Section("results", "Results"),
    Section("differences", "Differences"),
    Section("eps_curve", "Robustness over eps", lambda context: {"eps_curve": eps_curve(context.results)}),
    Section(
        "certificates",
        "Between proof and attack",
        lambda context: {"proof": proof_and_attack(context.results)},
        is_shown=lambda results: results.certificates is not None,
    ),
    Section(
        "external",
        "External validation",
        lambda context: {"external": external_validations(context)},
        is_shown=lambda results: any(not is_held_out(results.spec, one) for one in results.files.external_sets()),
    ),
    Section(
        "held_out",
        "Held-out test set",
        lambda context: {"held_out": held_out_test(context)},
        is_shown=lambda results: any(is_held_out(results.spec, one) for one in results.files.external_sets()),
    ),
    Section("training", "Training", lambda context: {"training": training_curves(context.results)}),
    Section("gallery", "Flipped images", lambda context: {"galleries": galleries(context)}),
    Section("confusion", "Confusion matrices", lambda context: {"confusions": confusions(context)}),
    Section(
        "classes",
        "Classes",
        lambda context: {"classes": class_tables(context)},
        is_shown=lambda results: len(results.classes) > 2,
    ),
    Section(
        "subgroups",
        "Subgroups",
        lambda context: {"subgroups": subgroups(context)},
        is_shown=lambda results: bool(subgroup_names(results)),
    ),
    Section("corruptions", "Natural corruptions", _corruptions),
    Section(
        "boxes",
        "Misplaced boxes",
        lambda context: {"boxes": box_grid(context.results, "f1")},
        is_shown=lambda results: results.spec.data.view == "lesion",
    ),
    Section("residuals", "Residual maps"),
    Section("calibration", "Calibration", _calibration),
    Section("operating_point", "Operating threshold", _operating_point),
    Section("examples", "Examples"),
    Section("audit", "Data audit"),
    Section("repeat", "How to reproduce the study", lambda context: {"training_time": training_time(context.results)}),
)


def section_variables(context: ReportContext) -> dict[str, Any]:
    """The variables of all sections that are shown, and the sections."""
    shown = [section for section in SECTIONS if section.is_shown(context.results)]
    return {"sections": shown} | {
        name: value for section in shown for name, value in section.variables(context).items()
    }
