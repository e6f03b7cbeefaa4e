"""A CSV file that lists the images: `path,label` and, where known, `group,source`."""

from pathlib import Path

from mirst.data.readers.table import read_table
from mirst.data.record import Record
from mirst.errors import MirstError


def recognises(root: Path) -> bool:
    return root.is_file() and root.suffix.lower() == ".csv"


def read(path: Path) -> list[Record]:
    """Paths are relative to the CSV file; an empty group is none.

    Raises:
        MirstError: a column is missing, an image is missing or listed twice, a label is empty.
    """
    records: dict[str, Record] = {}
    for number, row in enumerate(read_table(path, ("path", "label")), start=2):
        image = path.parent / row["path"]
        if not row["path"] or not image.is_file():
            raise MirstError(f"line {number} of {path}: {image} is no file; correct its path, relative to the CSV")
        if not row["label"]:
            raise MirstError(f"line {number} of {path} has no label")
        if row["path"] in records:
            raise MirstError(f"line {number} of {path} lists {row['path']} a second time; remove one of them")
        source = row.get("source") or path.resolve().parent.name
        records[row["path"]] = Record(image, row["label"], row.get("group") or None, source, row["path"])
    return list(records.values())
