"""BrEaST [Pawlowska et al. 2024]: one image per case, labels in a spreadsheet or CSV beside them."""

from pathlib import Path

from mirst.data.readers.skipped_files import folder_contents
from mirst.data.readers.table import MISSING, as_group, has_columns, read_table
from mirst.data.record import Record
from mirst.errors import MirstError
from mirst.untrusted.tables import Row

MASKS = "Mask_tumor_filename"
COLUMNS = ("CaseID", "Image_filename", "Classification")


def recognises(root: Path) -> bool:
    return root.is_dir() and _table(root) is not None


def read(root: Path) -> list[Record]:
    """The image of each row; masks (`_tumor`, `_other`) are not listed there and so are no images.

    Raises:
        MirstError: a listed image is in none of the folders below `root`.
    """
    table = _table(root)
    assert table is not None  # recognises() has checked it
    rows = read_table(table, COLUMNS)
    listed = {Path(name).name for row in rows for name in (row["Image_filename"], *_mask_names(row))}
    places = {p.name: p for p in sorted(root.rglob("*")) if p.name in listed and p.is_file()}
    records = []
    for row in rows:
        image = places.get(Path(row["Image_filename"]).name)
        if image is None:
            raise MirstError(f"{table} lists {row['Image_filename']}, which is not below {root}; restore it")
        case, name = as_group(row["CaseID"]), image.relative_to(root).as_posix()
        group, masks = case and f"breast-case-{case}", _masks(row, places)
        records.append(Record(image, row["Classification"].lower(), group, "breast", name, masks=masks))
    return records


def _mask_names(row: Row) -> list[str]:
    """Masks of the tumour; a cell may name several, joined by `&`."""
    cell = row.get(MASKS, "")
    return [] if cell in MISSING else [name.strip() for name in cell.split("&") if name.strip()]


def _masks(row: Row, places: dict[str, Path]) -> tuple[Path, ...]:
    return tuple(places[name] for one in _mask_names(row) if (name := Path(one).name) in places)


def contents(root: Path) -> list[Path]:
    """All files but the table that is read."""
    table = _table(root)
    return [path for path in folder_contents(root) if path != table]


def _table(root: Path) -> Path | None:
    candidates = sorted([*root.glob("*.csv"), *root.glob("*.xlsx")])
    return next((p for p in candidates if has_columns(p, COLUMNS)), None)
