"""A dossier from elsewhere: unpacked within bounds, and read without running anything that it names."""

import hashlib
import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mirst.dossier.contents import IMAGES, MANIFEST, NEEDED, Manifest, Run, is_content
from mirst.errors import MirstError
from mirst.study.layout import StudyFolder
from mirst.untrusted.archives import unpack
from mirst.untrusted.tables import read_rows

MAX_BYTES, MAX_UNPACKED = 2**31, 2**32
"""Of the archive, and of its files: those of a study with its images."""
MAX_FILES = 10_000
MAX_TEXT = 2**24
"""Bytes of a text that is read as a whole, such as the manifest and the report."""
ENDLESS = 2**27
"""Bytes of a file from which on it must not be more than `MAX_RATIO` times its compressed size."""
MAX_RATIO = 200
Content = TypeVar("Content", bound=BaseModel)


@dataclass(frozen=True)
class Opened:
    """An unpacked dossier."""

    place: StudyFolder
    manifest: Manifest
    digest: str
    """SHA-256 of its manifest."""

    @property
    def images(self) -> Path:
        return self.place.path / IMAGES


@contextmanager
def opened(archive: str | Path) -> Iterator[Opened]:
    """The dossier in a temporary folder, which is removed at the end of the block.

    Raises:
        MirstError: not a dossier, or one that exceeds a bound.
    """
    path = Path(archive)
    names = _names(path)
    with tempfile.TemporaryDirectory() as scratch:
        unpack(path, Path(scratch) / "dossier")
        place = Path(scratch) / "dossier"
        manifest = _validated(place / MANIFEST, Manifest)
        if names != {MANIFEST, *manifest.files}:
            odd = sorted(names ^ {MANIFEST, *manifest.files})[0]
            raise MirstError(f"{path}: {odd} is not both in the archive and in its manifest; it is not a dossier")
        digest = hashlib.sha256((place / MANIFEST).read_bytes()).hexdigest()
        named = place.rename(place.with_name(manifest.name))
        _require_readable(named, names)
        yield Opened(StudyFolder(named), manifest, digest)


def _names(path: Path) -> set[str]:
    """The names of the files, after their number, sizes and names were checked."""
    if not path.is_file():
        raise MirstError(f"{path} does not exist; give the zip file that mirst dossier wrote")
    if path.stat().st_size > MAX_BYTES:
        raise MirstError(f"{path} is larger than {MAX_BYTES} bytes; it is not unpacked")
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise MirstError(f"{path} is not a dossier ({error}); give the zip file that mirst dossier wrote") from error
    if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_UNPACKED:
        raise MirstError(f"{path} contains more than {MAX_FILES} files or {MAX_UNPACKED} bytes; it is not unpacked")
    for member in members:
        if member.file_size > max(ENDLESS, MAX_RATIO * member.compress_size):
            raise MirstError(f"{path}: {member.filename} is {member.file_size} bytes unpacked; it is not unpacked")
        if member.filename != MANIFEST and not is_content(member.filename):
            raise MirstError(f"{path} contains {member.filename}, which no dossier does; it is not unpacked")
    names = Counter(member.filename for member in members)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise MirstError(f"{path} contains {twice[0]} twice; it is not unpacked")
    if MANIFEST not in names:
        raise MirstError(f"{path} has no {MANIFEST}, so it is not a dossier; write one with mirst dossier")
    return set(names)


def _require_readable(place: Path, names: set[str]) -> None:
    """Every table and text is within its bounds, and `run.json` has what the report reads."""
    for name in sorted(names):
        path = place / name
        if path.suffix == ".csv":
            try:
                read_rows(path)
            except (ValueError, OSError, RuntimeError) as error:
                raise MirstError(f"{name} of the dossier cannot be read ({error})") from error
            except Exception as error:  # csv.Error and what else damaged bytes raise
                raise MirstError(f"{name} of the dossier cannot be read ({error})") from error
        elif path.suffix != ".safetensors" and not name.startswith("images/"):
            _text(path)
    for name in NEEDED:
        if name not in names:
            raise MirstError(f"the dossier has no {name}, so nothing can be checked; write it again with mirst dossier")
    _validated(StudyFolder(place).run, Run)


def _validated(path: Path, kind: type[Content]) -> Content:
    try:
        return kind.model_validate(_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise MirstError(f"{path.name} of the dossier is damaged ({where}: {first['msg']})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise MirstError(f"{path.name} of the dossier is no JSON ({error})") from error


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_TEXT:
        raise MirstError(f"{path.name} of the dossier is larger than {MAX_TEXT} bytes; it is not read")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise MirstError(f"{path.name} of the dossier is no text ({error})") from error
