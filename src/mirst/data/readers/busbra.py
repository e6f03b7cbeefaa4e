"""BUS-BRA [Gomez-Flores et al. 2023] in its published layout."""

from pathlib import Path

from mirst.data.readers.table import read_table
from mirst.data.record import Record
from mirst.errors import MirstError

TABLE = "bus_data.csv"


def recognises(root: Path) -> bool:
    return (root / TABLE).is_file() or (root / "BUSBRA" / TABLE).is_file()


def read(root: Path) -> list[Record]:
    """Both views of a case share its group. Raises `MirstError` for a listed image that is missing."""
    if not (root / TABLE).is_file():
        root = root / "BUSBRA"
    records = []
    for row in read_table(root / TABLE, ("ID", "Case", "Pathology")):
        image = root / "Images" / f"{row['ID']}.png"
        if not image.is_file():
            raise MirstError(f"{root / TABLE} lists {row['ID']}, but {image} is missing; restore it or remove the row")
        name = f"Images/{image.name}"
        scanner = row.get("Device") or None
        records.append(Record(image, row["Pathology"], f"busbra-case-{row['Case']}", "busbra", name, scanner=scanner))
    return records
