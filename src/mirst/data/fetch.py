"""Public data sets from their homes: licence first, checked, resumable, safely unpacked."""

import hashlib
import json
import os
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mirst.download import OnBytes, download
from mirst.errors import MirstError
from mirst.files import atomic, cache_folder, write_text

MAX_FILES = 20_000
MAX_BYTES = 8 * 2**30
MAX_DEPTH = 32
"""Folders in folders: what removes them goes down by recursion."""
CHUNK = 2**14
"""Bytes a read."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a data set lives."""

    url: str
    licence: str
    citation: str
    checksum: str | None
    """`algorithm:hex` as published; `None`: the first fetch is recorded and later ones are compared."""

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.url.split("?")[0].removesuffix("/content")).name


SOURCES = {
    "busi": Source(
        url="https://scholar.cu.edu.eg/Dataset_BUSI.zip",
        licence="free for research, citation asked for; its MedMNIST derivative is CC BY 4.0",
        citation="Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28 (2020)",
        checksum=None,
    ),
    "busbra": Source(
        url="https://zenodo.org/records/8231412/files/BUSBRA.zip?download=1",
        licence="CC BY 4.0; free use with citation (LICENSE.txt in the archive)",
        citation="Gomez-Flores et al., BUS-BRA, Medical Physics 51 (2024), doi:10.1002/mp.16812",
        checksum="md5:1f8b2be6476d58fc97bfb5e5a1ea9bab",
    ),
    "breastmnist": Source(
        url="https://zenodo.org/records/10519652/files/breastmnist.npz?download=1",
        licence="CC BY 4.0",
        citation="Yang et al., MedMNIST v2, Scientific Data 10 (2023)",
        checksum="md5:750601b1f35ba3300ea97c75c52ff8f6",
    ),
}


def fetch(name: str, folder: Path, on_bytes: OnBytes = lambda _there, _all: None) -> Path:
    """Download the data set `name` of `SOURCES` and put it below `folder`.

    A download that was cut off goes on where it stopped; one that is complete is not repeated.

    Returns:
        What `read_dataset` takes.

    Raises:
        MirstError: an unknown name, no network, a wrong checksum, an archive that is not safe to
            unpack, a folder that cannot be written.
    """
    if name not in SOURCES:
        raise MirstError(f"unknown data set {name}; choose {', '.join(SOURCES)}")
    source = SOURCES[name]
    target = folder / name if source.file_name.endswith(".zip") else folder / source.file_name
    if target.exists():
        return target
    archive = _checked(source, cache_folder() / "downloads" / name, on_bytes)
    if source.file_name.endswith(".zip"):
        unpack(archive, target)
    else:
        with atomic(target) as partial:
            shutil.copyfile(archive, partial)
    return target


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip file into the new folder `target`, whole or not at all.

    Raises:
        MirstError: a member that would leave the folder, a link, too many files or bytes, folders too
            deep, or an archive that is damaged.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            _require_safe(archive, members)
            for member in members:
                place = partial / member.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as packed, place.open("wb") as unpacked:
                    _copy_at_most(packed, unpacked, member.file_size, archive)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(target)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise MirstError(f"{archive} is no sound zip file ({error}); remove it and fetch again") from error
    except OSError as error:
        raise MirstError(f"cannot unpack {archive} into {target} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _require_safe(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_BYTES:
        raise MirstError(f"{archive} holds more than {MAX_FILES} files or {MAX_BYTES} bytes; it is not unpacked")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or ":" in member.filename or is_link:
            raise MirstError(f"{archive} holds {member.filename}, which leaves the folder; it is not unpacked")
        if len(path.parts) > MAX_DEPTH:
            raise MirstError(f"{archive} holds folders more than {MAX_DEPTH} deep; it is not unpacked")


def _copy_at_most(packed: Any, unpacked: Any, size: int, archive: Path) -> None:
    """Copy what the header promised and no byte more."""
    left = size
    while chunk := packed.read(min(CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise MirstError(f"{archive} unpacks to more than it says; it is not unpacked")
        unpacked.write(chunk)


def _checked(source: Source, folder: Path, on_bytes: OnBytes) -> Path:
    """The downloaded file; its checksum is the published one, else that of the first fetch."""
    record = folder / "checksum.json"
    known = source.checksum or (json.loads(record.read_text(encoding="utf-8")) if record.exists() else None)
    path = download(source.url, folder / source.file_name, known, on_bytes)
    if known is None:
        with path.open("rb") as file:
            write_text(record, json.dumps(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"))
    return path
