"""Public data sets: downloaded with checksums, resumable, safely unpacked."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mirst.download import OnBytes, download
from mirst.errors import MirstError
from mirst.files import atomic, cache_folder, write_text
from mirst.untrusted.archives import unpack


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a data set is published."""

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
        licence="free for research; please cite the source; its MedMNIST derivative is CC BY 4.0",
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

    An interrupted download continues where it stopped. A complete one is not repeated.

    Returns:
        A path for `read_dataset`.

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


def _checked(source: Source, folder: Path, on_bytes: OnBytes) -> Path:
    """The downloaded file; its checksum is the published one, else that of the first fetch."""
    record = folder / "checksum.json"
    known = source.checksum or (json.loads(record.read_text(encoding="utf-8")) if record.exists() else None)
    path = download(source.url, folder / source.file_name, known, on_bytes)
    if known is None:
        with path.open("rb") as file:
            write_text(record, json.dumps(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"))
    return path
