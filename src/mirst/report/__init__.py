"""Tables, figures and one HTML file from the outcome rows of a study."""

from mirst.report.audit import audit_summary, write_audit
from mirst.report.html import write_report
from mirst.report.tables import notes, paper_table

__all__ = ["audit_summary", "notes", "paper_table", "write_audit", "write_report"]
