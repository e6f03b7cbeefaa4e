"""The validation of a finished study on other data sets, read back from its folder."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mirst.errors import MirstError
from mirst.study.layout import SUITES, ExternalFolder
from mirst.study.results import Results, read_csv, stages_of
from mirst.study.row_checks import require_every_trial, require_rows, require_trials_of

KEYS = ("data", "labels", "fingerprint", "images", "groups", "per_class", "left_out", "notes")


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
    outcomes = _rows(results, folder.outcomes)
    require_every_trial(folder.outcomes, results.spec, outcomes, results.failed)
    suites = {suite: _rows(results, folder.table(suite)) for suite in SUITES if folder.table(suite).exists()}
    for suite, rows in suites.items():
        require_trials_of(folder.table(suite), rows, outcomes)
    models = _with_rows(results, outcomes, suites)
    if not folder.ensembles().exists():
        return External(folder, read_record(folder), models, None)
    ensembles = {name: folder.ensembles(name) for name in SUITES if folder.ensembles(name).exists()}
    own = _rows(results, folder.ensembles(), fold=0)
    strong = {suite: _rows(results, path, fold=0) for suite, path in ensembles.items()}
    return External(folder, read_record(folder), models, _with_rows(results, own, strong))


def _rows(results: Results, path: Path, **key: int) -> pd.DataFrame:
    rows = read_csv(path).assign(**key)
    require_rows(path, results.spec, rows, results.classes)
    return rows


def _with_rows(results: Results, outcomes: pd.DataFrame, suites: dict[str, pd.DataFrame]) -> Results:
    return replace(
        results,
        outcomes=outcomes,
        suites=stages_of(suites),
        checks={},
        distances=None,
        baselines=None,
        certificates=None,
    )
