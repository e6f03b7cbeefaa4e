"""CSV files and spreadsheets: bounded bytes and cells."""

import csv
import zipfile
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from mirst.untrusted.lfs_pointers import require_content

Cells = TypeVar("Cells")
Row = dict[str, str]
MAX_BYTES = 2**26
"""Of a file, and of an unpacked spreadsheet."""
MAX_COLUMNS = 256
MAX_CELLS = 2_000_000
"""Rows times columns. Missing cells of short rows count, since they are filled."""


def read_rows(path: Path) -> list[Row]:
    """The rows of a `.csv` (UTF-8) or `.xlsx` (first sheet) file, as texts by column name.

    Raises:
        Exception: whatever openpyxl and the csv module raise; `ValueError` for a file that is missing or too large,
            two columns of one name, or a row of more cells than the header.
    """
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it is not a file of at most {MAX_BYTES} bytes")
    require_content(path)
    return _read_xlsx(path) if path.suffix.lower() == ".xlsx" else _read_csv(path)


def _read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        names = [name.strip() for name in next(reader, [])]
        _require_distinct(names)
        rows = []
        for cells in _bounded(reader, len(names)):
            if any(cell.strip() for cell in cells[len(names) :]):
                raise ValueError(
                    f"line {reader.line_num} has more cells than the header; quote a cell that contains a comma"
                )
            if cells:
                rows.append(
                    {name: cell.strip() for name, cell in zip_longest(names, cells[: len(names)], fillvalue="")}
                )
        return rows


def _read_xlsx(path: Path) -> list[Row]:
    try:
        import openpyxl
    except ImportError as error:
        raise ValueError("spreadsheets need openpyxl; pip install 'mirst[xlsx]', or save it as CSV") from error
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
    workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        rows = workbook.worksheets[0].iter_rows(values_only=True, max_col=MAX_COLUMNS)
        header = list(next(rows, ()))
        while header and header[-1] is None:
            header.pop()
        names = ["" if name is None else str(name).strip() for name in header]
        _require_distinct(names)
        return [
            {name: _text(value) for name, value in zip(names, row, strict=False)}
            for row in _bounded(rows, len(names))
            if any(row)
        ]
    finally:
        workbook.close()


def _require_distinct(names: list[str]) -> None:
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"it has two columns named {twice}; rename or remove one")


def _bounded(rows: Iterable[Cells], columns: int) -> Iterator[Cells]:
    """The rows, checked as they are read: a small file may declare any number of rows and columns."""
    for number, row in enumerate(rows, start=1):
        if number * max(columns, 1) > MAX_CELLS:
            raise ValueError(f"it has more than {MAX_CELLS} cells")
        yield row


def _text(value: object) -> str:
    """The cell as a text. Spreadsheets store 7 as 7.0, which becomes `7`."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
