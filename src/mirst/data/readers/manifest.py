"""A CSV file that lists the images: `path,label` and, where known, `group,source,split,fold,x0,y0,x1,y1,mask`.

Every other column is an attribute of the images, such as the scanner, except for `name` and `image`.
"""

from pathlib import Path, PurePath

from mirst.data.box import Box, parse_box
from mirst.data.masks import is_mask
from mirst.data.readers.dicom import by_frame
from mirst.data.readers.table import MISSING, as_group, as_number, other_cells, read_table
from mirst.data.record import Record
from mirst.errors import MirstError
from mirst.untrusted.tables import Row

SPLIT = ("split", "fold")
"""Columns of a given split, of which an image has one at most."""
EDGES, MASK = ("x0", "y0", "x1", "y1"), "mask"
"""Columns of the box of the lesion, in pixels of the image, and of the paths of its masks, separated by `;`."""
KNOWN = ("path", *SPLIT, *EDGES, MASK)
"""Columns that are no attributes."""


def recognises(root: Path) -> bool:
    return root.is_file() and root.suffix.lower() == ".csv"


def read(path: Path) -> list[Record]:
    """The listed images, masks left out. DICOM files are read as in class folders: by frame, patients as groups.

    Paths are relative to the CSV file; an empty group is none. A box is in pixels of the upright image, that of a DICOM
    file in pixels of its whole frame.

    Raises:
        MirstError: a column is missing, an image is missing or listed twice, a label is empty, no image is listed,
            or a box or mask that cannot be one.
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
        source, place = row.get("source") or folder, f"line {number} of {path}"
        box, masks = _box(row, place), _masks(row, path.parent, place)
        records[row["path"]] = Record(
            image,
            label,
            group,
            source,
            row["path"],
            split=_split(row, place),
            box=box,
            masks=masks,
            attributes=other_cells(row, KNOWN),
        )
    return by_frame([record for name, record in records.items() if not is_mask(PurePath(name))], folder)


def _split(row: Row, place: str) -> str | None:
    """The column split or fold; pandas writes the numbers of folds as 1.0 where a row has none."""
    given = [as_number(row[column]) for column in SPLIT if row.get(column, "") not in MISSING]
    if len(given) > 1:
        raise MirstError(f"{place} has both a split and a fold; leave one of the columns out")
    return given[0] if given else None


def _box(row: Row, place: str) -> Box | None:
    cells = [row.get(column, "") for column in EDGES]
    if all(cell in MISSING for cell in cells):
        return None
    try:
        return parse_box(",".join(cells))
    except MirstError as error:
        raise MirstError(f"{place}: {error}") from error


def _masks(row: Row, folder: Path, place: str) -> tuple[Path, ...]:
    if row.get(MASK, "") in MISSING:
        return ()
    names = [row[MASK]] if (folder / row[MASK]).is_file() else row[MASK].split(";")
    masks = tuple(folder / name.strip() for name in names)
    for mask in masks:
        if not mask.is_file():
            raise MirstError(f"{place}: the mask {mask} is not a file; correct its path, relative to the CSV")
    return masks


def contents(path: Path) -> list[Path]:
    """The listed files."""
    return [path.parent / row["path"] for row in read_table(path, ("path", "label"))]
