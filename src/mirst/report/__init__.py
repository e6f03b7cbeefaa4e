"""Tables, figures and one HTML file from the outcome rows of a study."""

from mirst.report.html import write_report
from mirst.report.tables import notes, paper_table

__all__ = ["notes", "paper_table", "write_report"]
