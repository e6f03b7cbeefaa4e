"""Image folders as records: BUSI, BUS-BRA, plain class folders."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirst.errors import MirstError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
MASK = re.compile(r"(.+)_mask(_\d+)?")


@dataclass(frozen=True)
class Record:
    """One labelled image."""

    path: Path
    label: str
    """Name of the class."""
    group: str | None
    """Images of one group (a patient, say) never part between training and test; `None`: not named."""
    source: str
    """The data set that the image comes from."""


def read_dataset(path: str | Path, classes: Sequence[str] | None = None) -> list[Record]:
    """The records of a data set, sorted by class and file name.

    Recognised are BUSI in its published layout (masks are not images), BUS-BRA in its (`Case` is
    the group), each also one folder up, and plain class folders: one folder per class, named as it.

    Args:
        classes: keep these only; `None` keeps all.

    Raises:
        MirstError: nothing there that is a data set, a class without images, fewer than two
            classes, a class of `classes` that is not there, a listed image that is missing.
    """
    root = Path(path)
    if not root.is_dir():
        raise MirstError(f"data folder {root} does not exist or is no folder; name the folder that holds the images")
    records = _read_any(root)
    found = {record.label for record in records}
    if classes is not None:
        for name in classes:
            if name not in found:
                raise MirstError(f"{root} has no class {name}; it has {', '.join(sorted(found))}")
        records = [record for record in records if record.label in classes]
        found = set(classes)
    if len(found) < 2:
        raise MirstError(f"{root} holds one class only ({', '.join(found)}); a classifier needs at least two")
    return sorted(records, key=lambda record: (record.label, _natural(record.path.name)))


def positive_class(classes: Sequence[str], named: str | None = None) -> str:
    """The class that sensitivity counts: the one `named`, else "malignant".

    Raises:
        MirstError: it is not among `classes`.
    """
    positive = named or "malignant"
    if positive not in classes:
        known = ", ".join(classes)
        if named:
            raise MirstError(f"data.positive: {named} is not a class; the classes are {known}")
        raise MirstError(f"no class is called malignant; name the positive one with data.positive ({known})")
    return positive


def relative_names(records: Sequence[Record], root: str | Path) -> list[str]:
    """The images' paths below `root`, with forward slashes."""
    return [record.path.relative_to(root).as_posix() for record in records]


def _read_any(root: Path) -> list[Record]:
    for busbra in (root, root / "BUSBRA"):
        if (busbra / "bus_data.csv").is_file():
            return _read_busbra(busbra)
    inner = root / "Dataset_BUSI_with_GT"
    return _read_class_folders(inner if inner.is_dir() else root)


def _read_class_folders(root: Path) -> list[Record]:
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise MirstError(f"{root} holds no class folders; put the images of each class into a folder of its name")
    listed = {folder: _image_files(folder) for folder in folders}
    has_masks = any(_is_mask(p) for files in listed.values() for p in files)
    source = "busi" if has_masks and {"benign", "malignant"} <= {f.name for f in folders} else root.resolve().name
    records = []
    for folder, files in listed.items():
        images = [p for p in files if not (source == "busi" and _is_mask(p))]
        if not images:
            raise MirstError(
                f"class folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); fill it or remove it"
            )
        records += [Record(p, folder.name, None, source) for p in images]
    return records


def _read_busbra(root: Path) -> list[Record]:
    table = root / "bus_data.csv"
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"ID", "Case", "Pathology"} <= rows[0].keys():
        raise MirstError(f"{table} needs rows with the columns ID, Case and Pathology")
    records = []
    for row in rows:
        image = root / "Images" / f"{row['ID']}.png"
        if not image.is_file():
            raise MirstError(f"{table} lists {row['ID']}, but {image} is missing; restore it or remove the row")
        records.append(Record(image, row["Pathology"], f"busbra-case-{row['Case']}", "busbra"))
    return records


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


def _is_mask(path: Path) -> bool:
    match = MASK.fullmatch(path.stem)
    return match is not None and path.with_stem(match[1]).exists()


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `benign (2).png` before `benign (10).png`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
