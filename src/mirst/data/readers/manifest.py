"""A CSV file that lists the images: `path,label` and, where known, `group,source`."""

from pathlib import Path, PurePath

from mirst.data.masks import is_mask
from mirst.data.readers.dicom import by_frame
from mirst.data.readers.table import as_group, as_number, read_table
from mirst.data.record import Record
from mirst.errors import MirstError


def recognises(root: Path) -> bool:
    return root.is_file() and root.suffix.lower() == ".csv"


def read(path: Path) -> list[Record]:
    """The listed images, masks left out. DICOM files are read as in class folders: by frame, patients as groups.

    Paths are relative to the CSV file; an empty group is none.

    Raises:
        MirstError: a column is missing, an image is missing or listed twice, a label is empty, or no image is listed.
    """
    folder = path.resolve().parent.name
    records: dict[str, Record] = {}
    for number, row in enumerate(read_table(path, ("path", "label")), start=2):
        image = path.parent / row["path"]
        if not row["path"] or not image.is_file():
            raise MirstError(f"line {number} of {path}: {image} is not a file; correct its path, relative to the CSV")
        if not row["label"]:
            raise MirstError(f"line {number} of {path} has no label")
        if row["path"] in records:
            raise MirstError(f"line {number} of {path} lists {row['path']} a second time; remove one of them")
        label, group = as_number(row["label"]), as_group(row.get("group", ""))
        records[row["path"]] = Record(image, label, group, row.get("source") or folder, row["path"])
    return by_frame([record for name, record in records.items() if not is_mask(PurePath(name))], folder)


def contents(path: Path) -> list[Path]:
    """The listed files."""
    return [path.parent / row["path"] for row in read_table(path, ("path", "label"))]
