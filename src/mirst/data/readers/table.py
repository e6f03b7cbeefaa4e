"""Rows of a CSV file or spreadsheet, as text."""

import csv
import re
import zipfile
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from mirst.errors import MirstError
from mirst.files import require_content

Cells = TypeVar("Cells")
Row = dict[str, str]
MAX_BYTES = 2**26
"""Of a table, and of what a spreadsheet unpacks to."""
MAX_COLUMNS = 256
MAX_CELLS = 2_000_000
"""Rows times columns; short rows count in full, since their missing cells are filled."""

MISSING = frozenset({"", "nan", "NaN", "None", "<NA>"})
"""What stands in a table for no value; the words are those of pandas."""


def read_table(path: Path, columns: Iterable[str]) -> list[Row]:
    """The rows of a `.csv` (UTF-8) or `.xlsx` (first sheet) file.

    Raises:
        MirstError: the file cannot be read, is too large to be safe, has no rows, lacks one of `columns`, has
            two columns of one name, or a row of more cells than the header.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is no file of at most {MAX_BYTES} bytes")
        require_content(path)
        rows = _read_xlsx(path) if path.suffix.lower() == ".xlsx" else _read_csv(path)
    except Exception as error:
        raise MirstError(f"cannot read the table {path} ({error})") from error
    if not rows:
        raise MirstError(f"the table {path} has no rows")
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise MirstError(f"the table {path} lacks the column {missing[0]}; it has {', '.join(rows[0])}")
    return rows


def as_number(cell: str) -> str:
    """A whole number without its decimal point, anything else as it is.

    Programs store a column of whole numbers with gaps as floats.

    >>> as_number("12.0"), as_number("12"), as_number("P12.0"), as_number("12.5")
    ('12', '12', 'P12.0', '12.5')
    """
    return cell.partition(".")[0] if re.fullmatch(r"-?\d+\.0*", cell) else cell


def as_group(cell: str) -> str | None:
    """The patient or case that a cell names; `None` where it names none."""
    return None if cell in MISSING else as_number(cell)


def has_columns(path: Path, columns: Iterable[str]) -> bool:
    try:
        read_table(path, columns)
    except MirstError:
        return False
    return True


def _read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        names = [name.strip() for name in next(reader, [])]
        _require_distinct(names)
        rows = []
        for cells in _bounded(reader, len(names)):
            if any(cell.strip() for cell in cells[len(names) :]):
                raise ValueError(
                    f"line {reader.line_num} has more cells than the header; quote a cell that holds a comma"
                )
            if cells:
                rows.append(
                    {name: cell.strip() for name, cell in zip_longest(names, cells[: len(names)], fillvalue="")}
                )
        return rows


def _read_xlsx(path: Path) -> list[Row]:
    import openpyxl

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
        raise ValueError(f"it has two columns called {twice}; rename or remove one")


def _bounded(rows: Iterable[Cells], columns: int) -> Iterator[Cells]:
    """The rows, as long as their cells are not too many: a short file may declare any number of either."""
    for number, row in enumerate(rows, start=1):
        if number * max(columns, 1) > MAX_CELLS:
            raise ValueError(f"it has more than {MAX_CELLS} cells")
        yield row


def _text(value: object) -> str:
    """A whole number without its decimal point: spreadsheets keep 7 as 7.0."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
