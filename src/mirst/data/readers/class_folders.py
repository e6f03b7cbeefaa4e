"""One folder per class, named as the class, with images or DICOM files."""

from pathlib import Path

from mirst.data.file_kind import is_image
from mirst.data.masks import is_mask, is_mask_folder, masks_by_image
from mirst.data.readers.dicom import by_frame
from mirst.data.readers.skipped_files import is_hidden
from mirst.data.record import PARTS, Record
from mirst.errors import MirstError

IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs"})
"""Folders in a class folder that may contain its images."""


def recognises(root: Path) -> bool:
    return root.is_dir() and bool(class_folders(root))


def read(root: Path) -> list[Record]:
    """Raises `MirstError` for a class without images."""
    return read_classes(root, root.resolve().name)


def read_classes(root: Path, source: str) -> list[Record]:
    """The images of the class folders in `root`, masks left out.

    The parts of a published split (`PARTS`), each with class folders, are read as one data set, and each image knows
    its own.

    Raises:
        MirstError: a class without images.
    """
    folders = class_folders(root)
    has_parts = all(folder.name.lower() in PARTS and class_folders(folder) for folder in folders)
    if has_parts:
        folders = [folder for split in folders for folder in class_folders(split)]
    images = {folder: _images(folder) for folder in folders}
    masks = masks_by_image(path for paths in images.values() for path in paths)
    records = [
        Record(
            path,
            folder.name,
            None,
            source,
            path.relative_to(root).as_posix(),
            split=folder.parent.name if has_parts else None,
            masks=tuple(masks[path]),
        )
        for folder, paths in images.items()
        for path in paths
    ]
    return by_frame(records, source)


def class_folders(root: Path) -> list[Path]:
    return [p for p in visible(root) if p.is_dir() and not is_mask_folder(p.name)]


def visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not is_hidden(p))


def _images(folder: Path) -> list[Path]:
    places = [folder, *(p for p in visible(folder) if p.name.lower() in IMAGE_FOLDERS and p.is_dir())]
    for place in places:
        images = [p for p in visible(place) if p.is_file() and not is_mask(p) and is_image(p)]
        if images:
            return images
    raise MirstError(
        f"class folder {folder} contains no images (PNG, JPEG, BMP, TIFF, GIF, WebP, PNM or DICOM) directly or in a "
        "folder called images; move them there, or remove the folder"
    )
