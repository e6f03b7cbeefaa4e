"""The sections of a report, in the order of the page. Adding one takes a module, its template and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from shlex import quote
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
    about: str = ""
    """What a folded section contains; a section without it is open."""
    variables: Callable[[ReportContext], Variables] = lambda context: {}
    """What the template needs beside the tables of the whole page."""

    is_shown: Callable[[Results], bool] = lambda results: True
    command: str | None = None
    """What gives the section its numbers, if it is not shown; RESULTS stands for the folder."""

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
    assert grid is not None
    return {"corruptions": grid, "corruption_set": set_of(grid.index.unique("corruption"))}


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


DISTANCES = "mirst evaluate RESULTS --suite distances"
STRONG = "mirst evaluate RESULTS --suite standard"

SECTIONS = (
    Section("verdict", "Verdict"),
    Section("comparison", "Comparison"),
    Section(
        "eps_curve",
        "Robustness over eps",
        variables=lambda context: {"eps_curve": eps_curve(context.results)},
        is_shown=lambda results: results.distances is not None,
        command=DISTANCES,
    ),
    Section(
        "certificates",
        "Between proof and attack",
        variables=lambda context: {"proof": proof_and_attack(context.results)},
        is_shown=lambda results: results.certificates is not None,
        command="mirst certify RESULTS",
    ),
    Section(
        "external",
        "External validation",
        variables=lambda context: {"external": external_validations(context)},
        is_shown=lambda results: any(not is_held_out(results.spec, one) for one in results.files.external_sets()),
        command="mirst validate RESULTS --data OTHER_DATA",
    ),
    Section(
        "held_out",
        "Held-out test set",
        variables=lambda context: {"held_out": held_out_test(context)},
        is_shown=lambda results: any(is_held_out(results.spec, one) for one in results.files.external_sets()),
    ),
    Section(
        "subgroups",
        "Subgroups",
        "metrics by scanner, site, age band and the like",
        variables=lambda context: {"subgroups": subgroups(context)},
        is_shown=lambda results: bool(subgroup_names(results)),
    ),
    Section("results", "Results", "a table for each metric, under every attack"),
    Section("differences", "Differences", "every two models on the same images"),
    Section(
        "classes",
        "Classes",
        "metrics of each class",
        variables=lambda context: {"classes": class_tables(context)},
        is_shown=lambda results: len(results.classes) > 2,
    ),
    Section(
        "confusion",
        "Confusion matrices",
        "which class is mistaken for which",
        variables=lambda context: {"confusions": confusions(context)},
    ),
    Section(
        "gallery",
        "Flipped images",
        "the images whose prediction the smallest attacks change",
        variables=lambda context: {"galleries": galleries(context)},
        is_shown=lambda results: results.distances is not None,
        command=DISTANCES,
    ),
    Section(
        "corruptions",
        "Natural corruptions",
        "F1 under noise, blur and the like, without an attack",
        variables=_corruptions,
        is_shown=lambda results: results.files.corruptions.exists(),
        command="mirst evaluate RESULTS --suite corruptions",
    ),
    Section(
        "boxes",
        "Misplaced boxes",
        "F1 if the box of the lesion is shifted or scaled",
        variables=lambda context: {"boxes": box_grid(context.results, "f1")},
        is_shown=lambda results: results.files.boxes.exists(),
        command="mirst evaluate RESULTS --suite boxes",
    ),
    Section(
        "calibration",
        "Calibration",
        "whether predicted probabilities agree with what is observed; abstention",
        variables=_calibration,
    ),
    Section(
        "operating_point",
        "Operating threshold",
        "sensitivity and specificity at other thresholds",
        variables=_operating_point,
        is_shown=lambda results: len(results.classes) == 2,
    ),
    Section("examples", "Examples", "images before and after each attack"),
    Section("residuals", "Residual maps", "the part of an attack that passes the first pooling layer"),
    Section(
        "training",
        "Training",
        "curves and kept epochs of every model",
        variables=lambda context: {"training": training_curves(context.results)},
    ),
    Section("audit", "Data audit", "copies, label conflicts and damaged files"),
    Section(
        "repeat",
        "How to reproduce the study",
        "versions, settings and the command",
        variables=lambda context: {"training_time": training_time(context.results)},
    ),
)


def not_run(results: Results) -> dict[str, list[str]]:
    """The headings of what the folder has no numbers of, by the command that computes them."""
    shown = [] if results.checks else [("Strong attacks, and checks for gradient masking", STRONG)]
    for section in SECTIONS:
        applies = section.name != "boxes" or results.spec.data.view == "lesion"
        if section.command is not None and applies and not section.is_shown(results):
            shown.append((section.heading, section.command))
    folder, commands = quote(str(results.folder)), dict.fromkeys(command for _, command in shown)
    return {
        command.replace("RESULTS", folder): [heading for heading, own in shown if own == command]
        for command in commands
    }


def section_variables(context: ReportContext) -> dict[str, Any]:
    """The variables of all sections that are shown, and the sections."""
    shown = [section for section in SECTIONS if section.is_shown(context.results)]
    return {"sections": shown} | {
        name: value for section in shown for name, value in section.variables(context).items()
    }
