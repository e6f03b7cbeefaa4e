"""Metrics, intervals and verdict follow from the rows: the report is written again and compared."""

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from mirst.dossier.answers import Answer, Verdict, judged
from mirst.dossier.contents import WRITTEN
from mirst.dossier.report_text import without_pictures, write_plain_report
from mirst.files import write_csv
from mirst.study.layout import StudyFolder
from mirst.study.results import Results, read_csv
from mirst.study.summary import summarise

CLOSE = 1e-9
"""By how much numbers may differ between versions of the packages."""


def check_summary(results: Results, scratch: Path) -> Answer:
    """Whether `summary.csv` follows from the outcome rows."""
    rows, failed = results.outcomes, results.failed
    lost = set(zip(failed["defense"], failed["drop_max"], strict=True))
    whole = [key not in lost for key in zip(rows["defense"], rows["drop_max"], strict=True)]
    path = scratch / results.files.summary.name
    write_csv(path, summarise(rows[whole], results.classes, results.positive))
    faults = difference(results.files.summary, path)
    return judged(
        "metrics", faults, Verdict.RECOMPUTED, f"{len(results.summary)} means and deviations follow from the rows"
    )


def check_report(place: Path, scratch: Path) -> list[Answer]:
    """Whether the tables, their intervals and the sentences of the report follow from the other files.

    The report in `place` is written again.
    """
    names = [*WRITTEN, *sorted(f"tables/{path.name}" for path in (place / "tables").glob("*"))]
    for name in names:
        if (place / name).exists():
            (scratch / name).parent.mkdir(exist_ok=True)
            (place / name).rename(scratch / name)
    write_plain_report(place)
    written = [*WRITTEN, *sorted(f"tables/{path.name}" for path in (place / "tables").glob("*"))]
    faults = [f"{name} is not a table of this study" for name in sorted(set(names) - set(written))]
    for name in written:
        faults += difference(scratch / name, place / name) if (scratch / name).exists() else [f"{name} is missing"]
    answer = judged(
        "report", faults, Verdict.RECOMPUTED, f"intervals, verdict and {len(written) - 1} tables follow from the rows"
    )
    page = StudyFolder(place).report
    if faults or (scratch / page.name).read_bytes() == page.read_bytes():
        return [answer]
    charts = Answer(
        Verdict.UNCHECKED, "charts", "those of report.html look different with the packages of this machine"
    )
    return [answer, charts]


def difference(stated: Path, own: Path) -> list[str]:
    """What differs between a file of the dossier and the same file made again; numbers up to rounding."""
    if stated.read_bytes() == own.read_bytes():
        return []
    if stated.suffix == ".html":
        both = [without_pictures(path.read_text(encoding="utf-8")).splitlines() for path in (stated, own)]
        odd = next((line for line, other in zip(*both, strict=False) if line != other), None)
        return (
            []
            if both[0] == both[1]
            else [f"{stated.name} does not follow from the rows ({(odd or 'its end').strip()[:200]})"]
        )
    if stated.suffix == ".csv" and _same(read_csv(stated), read_csv(own)):
        return []
    return [f"{stated.name} does not follow from the rows"]


def _same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    if list(first.columns) != list(second.columns) or len(first) != len(second):
        return False
    return all(_same_column(first[name], second[name]) for name in first)


def _same_column(first: pd.Series, second: pd.Series) -> bool:
    if is_numeric_dtype(first) and is_numeric_dtype(second):
        return bool(np.allclose(first.astype(float), second.astype(float), rtol=CLOSE, atol=CLOSE, equal_nan=True))
    return first.astype(str).tolist() == second.astype(str).tolist()
