"""Rows of a CSV file or spreadsheet, as text."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from mirst.errors import MirstError
from mirst.untrusted.tables import Row, read_rows

MISSING = frozenset({"", "nan", "NaN", "None", "<NA>"})
"""Cells that contain no value; the words are those of pandas."""
RESERVED = frozenset({"", "name", "image", "label", "group", "source", "split"})
"""Columns that are no attributes of an image, because the tables of mirst have columns of these names."""


def read_table(path: Path, columns: Iterable[str]) -> list[Row]:
    """The rows of a `.csv` (UTF-8) or `.xlsx` (first sheet) file.

    Raises:
        MirstError: the file cannot be read, is too large to be safe, has no rows, lacks one of `columns`, has
            two columns of one name, or a row of more cells than the header.
    """
    try:
        rows = read_rows(path)
    except Exception as error:
        raise MirstError(f"cannot read the table {path} ({error})") from error
    if not rows:
        raise MirstError(f"the table {path} has no rows")
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        separated = "; separate its columns with commas" if any(";" in name for name in rows[0]) else ""
        raise MirstError(f"the table {path} lacks the column {missing[0]}; it has {', '.join(rows[0])}{separated}")
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


def other_cells(row: Row, known: Collection[str]) -> dict[str, str]:
    """The attributes of an image: the cells with a value of all columns but the `known` and the `RESERVED` ones.

    >>> other_cells({"path": "1.png", "age": "40.0", "site": "", "": "0"}, ["path"])
    {'age': '40'}
    """
    cells = {name: as_number(cell) for name, cell in row.items() if name not in known and name not in RESERVED}
    return {name: cell for name, cell in cells.items() if cell not in MISSING}


def has_columns(path: Path, columns: Iterable[str]) -> bool:
    try:
        read_table(path, columns)
    except MirstError:
        return False
    return True
