"""The validation of a finished study on other data sets, read back from its folder."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mirst.errors import MirstError
from mirst.study.external_set import HELD_OUT
from mirst.study.layout import SUITES, ExternalFolder
from mirst.study.results import Results, read_csv, stages_of, with_certificates
from mirst.study.row_checks import require_every_trial, require_rows, require_trials_of
from mirst.study.spec import StudySpec

KEYS = ("data", "labels", "fingerprint", "images", "groups", "per_class", "left_out", "notes")
OUTCOMES, CERTIFICATES = "outcomes", "certificates"
TABLES = (OUTCOMES, *SUITES, CERTIFICATES)


@dataclass(frozen=True, eq=False)
class External:
    """The validation of a study on another data set.

    >>> from types import SimpleNamespace
    >>> External(ExternalFolder(Path("results/external/clinic")), {}, SimpleNamespace(), None).name
    'clinic'
    """

    folder: ExternalFolder
    record: dict[str, Any]
    """Images, groups, images that were left out and the like, from `external.json`."""
    models: Results
    """The study with the rows of its models on the external images."""
    ensembles: Results | None
    """The study with the rows of the ensembles of the folds' models, as fold 0; `None` if there is none."""

    @property
    def name(self) -> str:
        return self.folder.path.name

    @property
    def is_held_out(self) -> bool:
        """Whether it is the test set that `folds.held_out` keeps, and not another data set."""
        return is_held_out(self.models.spec, self.folder)


def is_held_out(spec: StudySpec, folder: ExternalFolder) -> bool:
    """Whether the folder is of the test set that `folds.held_out` of the study keeps."""
    return folder.path.name == HELD_OUT and spec.folds.held_out is not None


def read_externals(results: Results) -> list[External]:
    """The validations of a study, by name.

    Raises:
        MirstError: a damaged file, or a table without the rows of a model of the study.
    """
    return [_read(results, folder) for folder in results.files.external_sets()]


def read_record(folder: ExternalFolder) -> dict[str, Any]:
    """What `external.json` says of the data set.

    Raises:
        MirstError: the file is damaged.
    """
    try:
        record: dict[str, Any] = json.loads(folder.record.read_text(encoding="utf-8"))
        for key in KEYS:
            record[key]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise MirstError(f"{folder.record} is damaged ({error}); remove {folder.path} and validate again") from error
    return record


def _read(results: Results, folder: ExternalFolder) -> External:
    models = _with_rows(results, {name: folder.table(name) for name in TABLES})
    if folder.baselines.exists():
        models = replace(models, baselines=read_csv(folder.baselines))
    require_every_trial(folder.outcomes, results.spec, models.outcomes, results.failed)
    for path in (folder.table(name) for name in TABLES):
        if path.exists():
            require_trials_of(path, read_csv(path), models.outcomes)
    ensembles = None
    if folder.ensembles().exists():
        ensembles = _with_rows(results, {name: folder.ensembles(name) for name in TABLES}, fold=0)
    return External(folder, read_record(folder), models, ensembles)


def _with_rows(results: Results, tables: dict[str, Path], **key: int) -> Results:
    """The study with the rows of these tables, and `key` as columns that they lack."""
    rows = {
        name: read_csv(path).assign(**key) for name, path in tables.items() if name != CERTIFICATES and path.exists()
    }
    for name, own in rows.items():
        require_rows(tables[name], results.spec, own, results.classes)
    outcomes = rows.pop(OUTCOMES)
    found = replace(
        results,
        outcomes=outcomes,
        suites=stages_of(rows),
        checks={},
        distances=None,
        baselines=None,
        certificates=None,
    )
    return with_certificates(found, tables[CERTIFICATES], **key)
