"""Rows of a CSV file or spreadsheet, as text."""

import csv
from collections.abc import Iterable
from pathlib import Path

from mirst.errors import MirstError

Row = dict[str, str]


def read_table(path: Path, columns: Iterable[str]) -> list[Row]:
    """The rows of a `.csv` (UTF-8) or `.xlsx` (first sheet) file.

    Raises:
        MirstError: the file cannot be read, has no rows, or lacks one of `columns`.
    """
    try:
        rows = _read_xlsx(path) if path.suffix.lower() == ".xlsx" else _read_csv(path)
    except Exception as error:
        raise MirstError(f"cannot read the table {path} ({error})") from error
    if not rows:
        raise MirstError(f"the table {path} has no rows")
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise MirstError(f"the table {path} lacks the column {missing[0]}; it has {', '.join(rows[0])}")
    return rows


def has_columns(path: Path, columns: Iterable[str]) -> bool:
    try:
        read_table(path, columns)
    except MirstError:
        return False
    return True


def _read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        return [
            {str(key).strip(): (value or "").strip() for key, value in row.items() if key is not None} for row in reader
        ]


def _read_xlsx(path: Path) -> list[Row]:
    import openpyxl

    workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        header, *rows = workbook.worksheets[0].iter_rows(values_only=True)
        names = [str(name).strip() for name in header]
        return [{name: _text(value) for name, value in zip(names, row, strict=False)} for row in rows if any(row)]
    finally:
        workbook.close()


def _text(value: object) -> str:
    """A whole number without its decimal point: spreadsheets keep 7 as 7.0."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
