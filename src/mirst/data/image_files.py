"""Search for image files in folders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mirst.data.dicom import frame_count
from mirst.data.file_kind import Kind, file_kind, is_image
from mirst.data.masks import is_mask
from mirst.data.record import ImageFile
from mirst.errors import MirstError


def find_images(paths: Sequence[Path]) -> tuple[list[ImageFile], list[Path]]:
    """The images at `paths`, in that order and each once, and the files in folders that are left out.

    A file is used whatever its name. Folders are searched recursively, in alphabetical order, for files whose content
    is an image. Files that are masks by their names, hidden files and hidden folders are skipped. Each frame of a
    DICOM file is an image.

    Raises:
        MirstError: a path that does not exist, a folder without images, or a DICOM file that cannot be read.
    """
    files: list[Path] = []
    seen: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise MirstError(f"{path} does not exist; give image files, or folders that contain some")
            files.append(path)
            continue
        inside = list(_files_below(path))
        images = [file for file in inside if is_image(file) and not is_mask(file)]
        if not images:
            raise MirstError(f"{path} contains no images (PNG, JPEG, BMP, TIFF, GIF, WebP, PNM or DICOM)")
        files += images
        seen += inside
    return [image for file in dict.fromkeys(files) for image in _frames(file)], _without(seen, files)


def _without(paths: list[Path], taken: list[Path]) -> list[Path]:
    known = set(taken)
    return [path for path in dict.fromkeys(paths) if path not in known]


def _files_below(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder, onerror=_reject):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(at) / name for name in sorted(names) if not name.startswith("."))


def _reject(error: OSError) -> None:
    raise MirstError(f"cannot read {error.filename} ({error.strerror})") from error


def _frames(path: Path) -> list[ImageFile]:
    count = frame_count(path) if path.is_file() and file_kind(path) is Kind.DICOM else 1
    return [ImageFile(path, str(frame)) for frame in range(count)] if count > 1 else [ImageFile(path)]
