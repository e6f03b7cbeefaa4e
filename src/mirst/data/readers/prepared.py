"""Folders of `mirst data prepare`: letterboxed pixels in one file, and a table of the records."""

from pathlib import Path

from mirst.data.readers.table import other_cells, read_table
from mirst.data.record import Record
from mirst.files import as_named

PIXELS, TABLE = "pixels.npy", "records.csv"
COLUMNS = ("name", "label", "group", "source", "split")
"""Of the table; its other columns are attributes."""


def recognises(path: Path) -> bool:
    return (path / PIXELS).is_file() and (path / TABLE).is_file()


def read(path: Path) -> list[Record]:
    rows = [
        {as_named(key): as_named(value) for key, value in row.items()} for row in read_table(path / TABLE, COLUMNS[:-1])
    ]
    return [
        Record(
            path=path / PIXELS,
            label=row["label"],
            group=row["group"] or None,
            source=row["source"],
            name=row["name"],
            item=str(number),
            split=row.get("split") or None,  # folders of older versions have none
            attributes=other_cells(row, COLUMNS),
        )
        for number, row in enumerate(rows)
    ]
