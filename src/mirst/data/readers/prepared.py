"""Folders of `mirst data prepare`: letterboxed pixels in one file, and a table of the records."""

from pathlib import Path

from mirst.data.readers.table import read_table
from mirst.data.record import Record
from mirst.files import as_named

PIXELS, TABLE = "pixels.npy", "records.csv"
COLUMNS = ("name", "label", "group", "source", "scanner", "split")


def recognises(path: Path) -> bool:
    return (path / PIXELS).is_file() and (path / TABLE).is_file()


def read(path: Path) -> list[Record]:
    rows = [{key: as_named(value) for key, value in row.items()} for row in read_table(path / TABLE, COLUMNS[:-1])]
    return [
        Record(
            path=path / PIXELS,
            label=row["label"],
            group=row["group"] or None,
            source=row["source"],
            name=row["name"],
            item=str(number),
            scanner=row["scanner"] or None,
            split=row.get("split") or None,  # folders of older versions have none
        )
        for number, row in enumerate(rows)
    ]
