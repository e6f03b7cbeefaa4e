"""Public data sets from their homes: licence first, checked, resumable, safely unpacked."""

import json
import logging
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mirst.data.cache import cache_folder
from mirst.errors import MirstError
from mirst.files import atomic, write_text

MAX_FILES = 20_000
MAX_BYTES = 8 * 2**30
CHUNK = 2**14
"""Bytes a read; at most as many are lost when a connection is cut."""
TIMEOUT = 30.0

OnBytes = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes in all, where the server says."""


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
    archive = _download(source, cache_folder() / "downloads" / name, on_bytes)
    if source.file_name.endswith(".zip"):
        unpack(archive, target)
    else:
        with atomic(target) as partial:
            shutil.copyfile(archive, partial)
    return target


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip file into the new folder `target`, whole or not at all.

    Raises:
        MirstError: a member that would leave the folder, a link, too many files or bytes, or an
            archive that is damaged.
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


def _copy_at_most(packed: Any, unpacked: Any, size: int, archive: Path) -> None:
    """Copy what the header promised and no byte more."""
    left = size
    while chunk := packed.read(min(CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise MirstError(f"{archive} unpacks to more than it says; it is not unpacked")
        unpacked.write(chunk)


def _download(source: Source, folder: Path, on_bytes: OnBytes) -> Path:
    """The file in the cache, its checksum compared."""
    import pooch
    import requests

    logging.getLogger("pooch").setLevel(logging.ERROR)
    record = folder / "checksum.json"
    known = source.checksum or (json.loads(record.read_text(encoding="utf-8")) if record.exists() else None)
    try:
        path = Path(
            pooch.retrieve(
                source.url, known, source.file_name, folder, downloader=_Resuming(folder / "unfinished", on_bytes)
            )
        )
    except requests.HTTPError as error:
        raise MirstError(f"{source.url} does not give the data set ({error}); it may have moved") from error
    except requests.RequestException as error:
        raise MirstError(f"cannot reach {source.url}; check the network and run the command again") from error
    except ValueError as error:
        (folder / "unfinished").unlink(missing_ok=True)
        raise MirstError(
            f"{source.url} does not have the checksum {known}; fetch again or ask its publisher"
        ) from error
    if known is None:
        write_text(record, json.dumps(f"sha256:{pooch.file_hash(str(path))}"))
    return path


class _Resuming:
    """A pooch downloader that keeps what it has and asks for the rest."""

    def __init__(self, unfinished: Path, on_bytes: OnBytes) -> None:
        self.unfinished = unfinished
        self.on_bytes = on_bytes

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        import requests

        there = self.unfinished.stat().st_size if self.unfinished.exists() else 0
        headers = {"Range": f"bytes={there}-"} if there else {}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != requests.codes.requested_range_not_satisfiable:  # else it is complete
                response.raise_for_status()
                resumed = response.status_code == requests.codes.partial_content
                self._save(response, there if resumed else 0)
        shutil.copyfile(self.unfinished, output_file)
        self.unfinished.unlink()

    def _save(self, response: Any, there: int) -> None:
        import requests

        length = response.headers.get("Content-Length")
        total = None if length is None else there + int(length)
        with self.unfinished.open("ab" if there else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                there += len(chunk)
                self.on_bytes(there, total)
        if total is not None and there < total:
            raise requests.ConnectionError(f"the connection ended after {there} of {total} bytes")
