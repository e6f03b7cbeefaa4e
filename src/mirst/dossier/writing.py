"""From a finished study to its dossier."""

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Unpack

from mirst.data.cache import VERSION as PREPARATION
from mirst.data.inspection import VERSION as AUDIT
from mirst.dossier.contents import FORMAT, IMAGES, MANIFEST, STUDY_FILES, TRIAL_FILES, Manifest
from mirst.dossier.image_table import image_table
from mirst.dossier.opening import opened
from mirst.dossier.report_text import write_plain_report
from mirst.dossier.tables import claimed_rows, read_tables
from mirst.files import atomic, write_csv
from mirst.study import read_results, search_witnesses
from mirst.study.identity import PACKAGES
from mirst.study.layout import StudyFolder
from mirst.study.misclassified_rows import uncovered
from mirst.study.post_hoc.base import Options
from mirst.study.prepared import Prepared, prepare
from mirst.study.results import read_csv, read_spec
from mirst.study.trial import all_trials

DATE = (1980, 1, 1, 0, 0, 0)
"""Of every file, so that the same study gives the same archive."""


@dataclass(frozen=True)
class Dossier:
    """What was written.

    >>> written = Dossier(Path("study.zip"), digest="0" * 64, models=2, claims=3, witnesses=2, unwitnessed=1)
    >>> written.claims - written.witnesses == written.unwitnessed
    True
    """

    path: Path
    digest: str
    """SHA-256 of the manifest, which has the hash of every other file. Publish it beside the numbers."""
    models: int
    claims: int
    """Rows that call an image misclassified under attack, though it is not without."""
    witnesses: int
    unwitnessed: int
    """Claims for which no witness was found."""


def write_dossier(
    folder: str | Path, out: str | Path, *, with_images: bool = False, **options: Unpack[Options]
) -> Dossier:
    """Write the dossier of a finished study: models, rows, tables, witnesses, certificates, but no image.

    The study's attacks are run again, to keep what misclassifies each image (`mirst.study.search_witnesses`).

    Args:
        folder: results folder of a finished study.
        out: zip file to write.
        with_images: also store the files of the images.
        options: as for `mirst.study.attack_study`.

    Raises:
        MirstError: no finished study, other images, an `out` that cannot be written, or more than `verify_dossier`
            accepts.
    """
    results = read_results(folder)
    study = search_witnesses(results.folder, **options)
    prepared = prepare(read_spec(study).with_data(options.get("data")))
    name = _plain(results.folder.resolve().name)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / name
        _copy(study, StudyFolder(place))
        write_csv(place / IMAGES, image_table(prepared))
        write_plain_report(place)
        if with_images:
            _copy_images(prepared, place / "images")
        manifest = _manifest(name, place)
        (place / MANIFEST).write_text(manifest, encoding="utf-8")
        _pack(place, Path(out))
        claims = claimed_rows(read_tables(StudyFolder(place)))
    witnesses = read_csv(study.witnesses)
    return Dossier(
        path=Path(out),
        digest=hashlib.sha256(manifest.encode()).hexdigest(),
        models=sum(study.trial(trial.name).model.exists() for trial in all_trials(results.spec)),
        claims=len(claims),
        witnesses=len(witnesses),
        unwitnessed=len(uncovered(claims, witnesses)),
    )


def _plain(name: str) -> str:
    return re.sub(r"[^\w .+-]", "-", name).lstrip(" .+-")[:200] or "study"


def _copy(study: StudyFolder, copy: StudyFolder) -> None:
    """The files that a dossier has of a results folder."""
    copy.path.mkdir()
    for name in STUDY_FILES:
        if (study.path / name).exists():
            shutil.copyfile(study.path / name, copy.path / name)
    for trial in all_trials(read_spec(study)):
        for name in TRIAL_FILES:
            source, target = study.trial(trial.name).path / name, copy.trial(trial.name).path / name
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


def _copy_images(prepared: Prepared, folder: Path) -> None:
    folder.mkdir()
    for path in {record.path for record in prepared.records}:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        suffix = path.suffix.lower() if re.fullmatch(r"\.\w{1,8}", path.suffix) else ""
        shutil.copyfile(path, folder / f"{digest}{suffix}")


def _manifest(name: str, place: Path) -> str:
    files = sorted(path for path in place.rglob("*") if path.is_file())
    manifest = Manifest(
        format=FORMAT,
        name=name,
        packages={package: version(package) for package in PACKAGES},
        preparation=PREPARATION,
        audit=AUDIT,
        files={path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    )
    return json.dumps(manifest.model_dump(), indent=1)


def _pack(place: Path, out: Path) -> None:
    with atomic(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(path.relative_to(place).as_posix(), DATE)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(member, path.read_bytes(), compresslevel=9)
        archive.close()
        with opened(partial):
            pass  # what mirst verify would refuse is not written
