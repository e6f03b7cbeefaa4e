"""BUS-BRA [Gomez-Flores et al. 2023] in its published layout."""

from pathlib import Path

from mirst.data.file_kind import is_image
from mirst.data.readers.class_folders import visible
from mirst.data.readers.skipped_files import folder_contents
from mirst.data.readers.table import as_group, read_table
from mirst.data.record import Record
from mirst.errors import MirstError

TABLE = "bus_data.csv"


def recognises(root: Path) -> bool:
    return (root / TABLE).is_file() or (root / "BUSBRA" / TABLE).is_file()


def read(root: Path) -> list[Record]:
    """Both views of a case share its group. Raises `MirstError` for a listed image that is missing."""
    root = published(root)
    images = {path.stem: path for path in visible(root / "Images") if path.is_file() and is_image(path)}
    records = []
    for row in read_table(root / TABLE, ("ID", "Case", "Pathology")):
        image = images.get(row["ID"])
        if image is None:
            raise MirstError(
                f"{root / TABLE} lists {row['ID']}, but no image of that name is in {root / 'Images'}; restore it or "
                "remove the row"
            )
        case, name, scanner = as_group(row["Case"]), f"Images/{image.name}", row.get("Device") or None
        records.append(Record(image, row["Pathology"], case and f"busbra-case-{case}", "busbra", name, scanner=scanner))
    return records


def published(root: Path) -> Path:
    return root if (root / TABLE).is_file() else root / "BUSBRA"


def contents(root: Path) -> list[Path]:
    """All files but the table that is read."""
    return [path for path in folder_contents(published(root)) if path.name != TABLE]
