"""Zip archives: no paths outside the target folder, no links, bounded count, size and depth."""

import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from mirst.errors import MirstError
from mirst.files import atomic_folder

MAX_FILES = 20_000
MAX_BYTES = 8 * 2**30
MAX_DEPTH = 32
"""Nested folders: `shutil.rmtree` removes them by recursion."""
CHUNK = 2**14
"""Bytes per read."""


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip file into the new folder `target`. On an error nothing is left there.

    Raises:
        MirstError: a path outside the folder, a link, too many files or bytes, folders nested too deep, a member
            that is larger than its header says, a damaged archive, or a `target` that cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            _require_safe(archive, members)
            with atomic_folder(target) as partial:
                for member in members:
                    path = partial / member.filename
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with file.open(member) as packed, path.open("wb") as unpacked:
                        _copy_at_most(packed, unpacked, member.file_size, archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise MirstError(f"{archive} is not a valid zip file ({error}); remove it and fetch again") from error
    except OSError as error:
        raise MirstError(f"cannot unpack {archive} into {target} ({error.strerror or error})") from error


def _require_safe(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_BYTES:
        raise MirstError(f"{archive} contains more than {MAX_FILES} files or {MAX_BYTES} bytes; it is not unpacked")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or ":" in member.filename or is_link:
            raise MirstError(
                f"{archive} contains {member.filename}, a path outside the target folder; it is not unpacked"
            )
        if len(path.parts) > MAX_DEPTH:
            raise MirstError(f"{archive} contains folders more than {MAX_DEPTH} deep; it is not unpacked")


def _copy_at_most(packed: IO[bytes], unpacked: IO[bytes], size: int, archive: Path) -> None:
    """Copy `size` bytes, the size in the header, and raise if there are more."""
    left = size
    while chunk := packed.read(min(CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise MirstError(f"{archive} unpacks to more bytes than its headers declare; it is not unpacked")
        unpacked.write(chunk)
