"""Progress and results on the terminal, in plain lines, and in JSON lines for programs."""

from mirst.display.evaluation import EvaluationDisplay
from mirst.display.json_lines import JsonLines, as_json
from mirst.display.study import StudyDisplay, show_table
from mirst.display.text import ByteLines, estimate_text, status_text

__all__ = [
    "ByteLines",
    "EvaluationDisplay",
    "JsonLines",
    "StudyDisplay",
    "as_json",
    "estimate_text",
    "show_table",
    "status_text",
]
