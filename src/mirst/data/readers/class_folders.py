"""One folder per class, named as the class, with images or DICOM files."""

from pathlib import Path

from mirst.data.dicom import is_dicom
from mirst.data.readers.dicom import dicom_records
from mirst.data.record import Record
from mirst.errors import MirstError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def recognises(root: Path) -> bool:
    return root.is_dir() and bool(class_folders(root))


def read(root: Path) -> list[Record]:
    """Raises `MirstError` for a class without images."""
    source = root.resolve().name
    records = []
    dicoms: list[tuple[Path, str]] = []
    for folder in class_folders(root):
        images = image_files(folder)
        found = [p for p in _files(folder) if is_dicom(p)]
        if not images and not found:
            raise MirstError(
                f"class folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}, DICOM); "
                "fill it or remove it"
            )
        records += [Record(p, folder.name, None, source, f"{folder.name}/{p.name}") for p in images]
        dicoms += [(p, folder.name) for p in found]
    return records + dicom_records(root, dicoms, source)


def class_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    return [p for p in _files(folder) if p.suffix.lower() in IMAGE_SUFFIXES]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
