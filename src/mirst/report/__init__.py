"""Tables, figures and one HTML file from the outcome rows of a study."""

from mirst.report.audit import write_audit
from mirst.report.certificates import certified_tables, levels_below, two_sided_text
from mirst.report.checklists import require_checklist, write_checklist
from mirst.report.context import ReportContext, every_row
from mirst.report.eps_curve import f1_over_eps
from mirst.report.evaluation import write_evaluation
from mirst.report.external import external_changes, external_validations, left_out_sentence
from mirst.report.html import write_report
from mirst.report.lesion_views import lesion_figure
from mirst.report.paper_claims import paper_comparison
from mirst.report.paper_figures import attacks_figure, read_figure_input, residuals_figure, save_figure
from mirst.report.robustness import verdict_lines, write_robustness
from mirst.report.study_notes import constant_predictions, notes
from mirst.report.tables import box_grid, corruption_grid, paper_table
from mirst.report.two_studies import write_comparison

__all__ = [
    "ReportContext",
    "attacks_figure",
    "box_grid",
    "certified_tables",
    "constant_predictions",
    "corruption_grid",
    "every_row",
    "external_changes",
    "external_validations",
    "f1_over_eps",
    "left_out_sentence",
    "lesion_figure",
    "levels_below",
    "notes",
    "paper_comparison",
    "paper_table",
    "read_figure_input",
    "require_checklist",
    "residuals_figure",
    "save_figure",
    "two_sided_text",
    "verdict_lines",
    "write_audit",
    "write_checklist",
    "write_comparison",
    "write_evaluation",
    "write_report",
    "write_robustness",
]
