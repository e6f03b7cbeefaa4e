"""Drafts of the checklists that journals ask for, as far as a finished study can answer them."""

from pathlib import Path

from mirst.errors import MirstError, suggestion
from mirst.files import write_text
from mirst.report.checklists.claim import CLAIM
from mirst.report.checklists.items import Answer, Checklist, Evidence, Item
from mirst.report.checklists.rendering import rendered
from mirst.report.checklists.tripod_ai import TRIPOD_AI
from mirst.report.context import ReportContext
from mirst.study import read_results

CHECKLISTS = {"claim": CLAIM, "tripod-ai": TRIPOD_AI}

__all__ = ["CHECKLISTS", "Answer", "Checklist", "Evidence", "Item", "require_checklist", "write_checklist"]


def require_checklist(name: str) -> None:
    """Raise `MirstError` unless `CHECKLISTS` has the name."""
    if name not in CHECKLISTS:
        raise MirstError(f"unknown checklist {name}{suggestion(name, list(CHECKLISTS))}")


def write_checklist(folder: str | Path, name: str) -> Path:
    """Write `checklist-NAME.md` into the results folder of a finished study whose report is written.

    Each item has the answer of the study, with links to the files that prove it, or is marked "author".

    Args:
        name: of `CHECKLISTS`.

    Returns:
        The path of the file.

    Raises:
        MirstError: an unknown checklist, a folder without a finished study, or one without its report.
    """
    require_checklist(name)
    study = Evidence(ReportContext(read_results(folder)))
    _require_report(study)
    path = study.results.folder / f"checklist-{name}.md"
    write_text(path, rendered(CHECKLISTS[name], study))
    return path


def _require_report(study: Evidence) -> None:
    """Raise `MirstError` unless the report is written, whose page and tables the answers link to."""
    page = study.results.files.report
    if not page.is_file():
        raise MirstError(f"{page.parent} has no {page.name}; run mirst report {page.parent} first")
