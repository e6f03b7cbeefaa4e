"""BUS-BRA [Gomez-Flores et al. 2023] in its published layout."""

from pathlib import Path

from mirst.data.box import Box
from mirst.data.file_kind import is_image
from mirst.data.readers.class_folders import visible
from mirst.data.readers.skipped_files import folder_contents
from mirst.data.readers.table import as_group, as_number, other_cells, read_table
from mirst.data.record import Record
from mirst.errors import MirstError
from mirst.untrusted.tables import Row

TABLE, FOLDS = "bus_data.csv", "5-fold-cv.csv"
KNOWN = ("ID", "Case", "Pathology", "Width", "Height", "BBOX")
"""Columns that are no attributes."""


def recognises(root: Path) -> bool:
    return (root / TABLE).is_file() or (root / "BUSBRA" / TABLE).is_file()


def read(root: Path) -> list[Record]:
    """Both views of a case share its group. Raises `MirstError` for a listed image that is missing."""
    root = published(root)
    images = {path.stem: path for path in visible(root / "Images") if path.is_file() and is_image(path)}
    folds = _published_folds(root / FOLDS)
    records = []
    for row in read_table(root / TABLE, ("ID", "Case", "Pathology")):
        image = images.get(row["ID"])
        if image is None:
            raise MirstError(
                f"{root / TABLE} lists {row['ID']}, but no image of that name is in {root / 'Images'}; restore it or "
                "remove the row"
            )
        case, name = as_group(row["Case"]), f"Images/{image.name}"
        group, box, masks = case and f"busbra-case-{case}", _box(row, root / TABLE), _masks(root, image)
        records.append(
            Record(
                image,
                row["Pathology"],
                group,
                "busbra",
                name,
                split=folds.get(row["ID"]),
                box=box,
                masks=masks,
                attributes=other_cells(row, KNOWN),
            )
        )
    return records


def _published_folds(table: Path) -> dict[str, str]:
    """The published fold of each image, where the data set has its table."""
    if not table.is_file():
        return {}
    return {row["ID"]: as_number(row["kFold"]) for row in read_table(table, ("ID", "kFold")) if row["kFold"]}


def _box(row: Row, table: Path) -> Box | None:
    """The lesion's box `[x, y, width, height]` in an image of `Width` by `Height` pixels; `None` without one."""
    if not row.get("BBOX"):
        return None
    try:
        x, y, width, height = map(float, row["BBOX"].strip("[]").split(","))
        return Box(x, y, x + width, y + height, (int(row["Width"]), int(row["Height"])))
    except (KeyError, ValueError) as error:
        raise MirstError(
            f"{table}: the BBOX of {row['ID']} is {row['BBOX']!r}; write [x,y,width,height] in pixels, with the size "
            "of the image in Width and Height"
        ) from error


def _masks(root: Path, image: Path) -> tuple[Path, ...]:
    """`Masks/mask_NUMBER.png` of `Images/bus_NUMBER.png`."""
    mask = root / "Masks" / f"mask_{image.stem.removeprefix('bus_')}.png"
    return (mask,) if mask.is_file() else ()


def published(root: Path) -> Path:
    return root if (root / TABLE).is_file() else root / "BUSBRA"


def contents(root: Path) -> list[Path]:
    """All files but the tables that are read."""
    return [path for path in folder_contents(published(root)) if path.name not in (TABLE, FOLDS)]
