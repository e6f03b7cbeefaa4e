"""A finished study, read back from its folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mirst.data import scored_index
from mirst.errors import MirstError
from mirst.evaluation import require_certificates_hold, with_attacks
from mirst.study.attributes import read_attributes
from mirst.study.layout import SUITES, StudyFolder
from mirst.study.load import load_spec
from mirst.study.named_configs import NamedDefense
from mirst.study.origin import Origin, origin_of
from mirst.study.row_checks import AGAIN, ROWS, require_every_trial, require_rows, require_trials_of
from mirst.study.spec import StudySpec
from mirst.study.summary import TRIAL
from mirst.study.trial import Trial, all_trials

CERTIFICATES = [
    *(*TRIAL, "source", "image", "group", "label", "prediction", "eps", "method", "margin", "certified", "score"),
    *("clean_score", "largest_eps", "attacked_prediction", "attacked_score"),
]
TABLES = ("outcomes.csv", "summary.csv", "failed.csv")
FAILED_COLUMNS = ["defense", "drop_max", "fold", "seed", "reason"]
COLUMNS = {
    "outcomes.csv": ROWS,
    "summary.csv": ["defense", "drop_max", "attack", "metric", "mean", "std"],
    "failed.csv": FAILED_COLUMNS,
    "diverged.csv": FAILED_COLUMNS,
    **{f"{suite}.csv": ROWS for suite in SUITES},
    **{f"{suite}-checks.csv": [*TRIAL, "name", "verdict", "figures"] for suite in SUITES},
    **{f"ensembles-{name}.csv": [column for column in ROWS if column != "fold"] for name in ("outcomes", *SUITES)},
    "baselines.csv": ROWS,
    "distances.csv": [*TRIAL, "source", "image", "label", "eps"],
    "certificates.csv": CERTIFICATES,
    "witnesses.csv": [*TRIAL, "source", "image", "attack", "eps", "unit", "prediction", "lead"],
    "ensembles-certificates.csv": [column for column in CERTIFICATES if column != "fold"],
}
"""What a reader of each table relies on."""


TEXT = {
    *("defense", "source", "image", "group", "label", "prediction", "attack", "broken_by", "broken_prediction"),
    *("name", "verdict", "figures", "reason", "method", "metric", "corruption", "placement"),
}
"""Columns of text, whatever it looks like: a class of MedMNIST is called 1, and an image may be 007."""


@dataclass(frozen=True, eq=False)
class Results:
    """A finished study, read back from its folder.

    >>> results = read_results("results/busi-small")  # doctest: +SKIP
    >>> results.outcomes.groupby("attack").size()  # doctest: +SKIP
    """

    folder: Path
    spec: StudySpec
    run: dict[str, Any]
    """Versions, data fingerprint, classes and the like, from `run.json`."""
    outcomes: pd.DataFrame
    summary: pd.DataFrame
    """Without the defenses of which a trial diverged or was killed: the mean of the others would flatter them."""
    failed: pd.DataFrame
    """`defense, drop_max, fold, seed, reason` of the trials that diverged or whose worker was killed."""

    suites: dict[str, pd.DataFrame]
    """Attacked rows of the suites that its models were attacked with later, by the suite's name."""
    checks: dict[str, pd.DataFrame]
    """Of masking: `defense, drop_max, fold, seed, name, verdict, figures`, by the suite's name."""
    distances: pd.DataFrame | None
    """The smallest eps at which each image is misclassified, as `named_distances`, if it was searched."""
    baselines: pd.DataFrame | None = None
    """Outcome rows of `mirst.study.baselines`, if the study is one of lesions."""

    attributes: pd.DataFrame | None = None
    """Of the images, as `read_attributes` returns them, if they have any."""
    certificates: pd.DataFrame | None = None
    """Rows of `named_certificates`, if there are any, with the worst that all attacks of the folder found."""

    @property
    def files(self) -> StudyFolder:
        return StudyFolder(self.folder)

    def trials(self, entry: NamedDefense) -> list[Trial]:
        """The trials of the defense, folds first."""
        return [trial for trial in all_trials(self.spec) if trial.entry == entry]

    def is_whole(self, entry: NamedDefense) -> bool:
        """Whether every trial of the defense has rows."""
        failed = zip(self.failed["defense"], self.failed["drop_max"], strict=True)
        return (entry.label, entry.drop_max) not in set(failed)

    @property
    def origin(self) -> Origin | None:
        """The study whose models are the members, if the models are ensembles."""
        return origin_of(self.run)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.run["data"]["classes"])

    @property
    def positive(self) -> str | None:
        """`None` for more than two classes of which none is special."""
        found: str | None = self.run["data"]["positive"]
        return found

    @property
    def scored(self) -> str:
        """The class whose log-odds are the score of the rows."""
        return self.classes[scored_index(self.classes, self.positive)]


def read_results(folder: str | Path) -> Results:
    """Read a finished study.

    Raises:
        MirstError: as `finished_study`; a table without one of its `COLUMNS`, with a damaged row or without the rows of
            a trial.
        RuntimeError: an attack of the folder misclassifies an image within its largest certified eps, which is a defect
            of mirst.
    """
    study = finished_study(folder)
    spec, run = read_spec(study), read_run(study)
    outcomes, summary, failed = read_csv(study.outcomes), read_csv(study.summary), read_csv(_failures(study))
    classes = run["data"]["classes"]
    require_rows(study.outcomes, spec, outcomes, classes)
    require_every_trial(study.outcomes, spec, outcomes, failed)
    suites, checks = _read_suites(study, spec, classes)
    _require_all_trials(study, outcomes)
    distances = read_csv(study.distances) if study.distances.exists() else None
    baselines = read_csv(study.baselines) if study.baselines.exists() else None
    attributes = read_attributes(study)
    results = Results(
        study.path, spec, run, outcomes, summary, failed, suites, checks, distances, baselines, attributes
    )
    return with_certificates(results, study.certificates)


def finished_study(folder: str | Path) -> StudyFolder:
    """The folder, if it has the files of a finished study.

    Raises:
        MirstError: no such folder, or one without a file of a finished study.
    """
    study = StudyFolder(Path(folder))
    for path in (study.spec, study.run, study.outcomes, study.summary, _failures(study)):
        if not path.is_file():
            raise MirstError(
                f"{study.path} has no {path.name}, so it is not the folder of a finished study; run "
                f"mirst run with --out {study.path} first"
            )
    return study


def _failures(study: StudyFolder) -> Path:
    return study.old_failed if study.old_failed.is_file() and not study.failed.exists() else study.failed


def _require_all_trials(study: StudyFolder, outcomes: pd.DataFrame) -> None:
    tables = [*map(study.table, SUITES), study.distances, study.boxes, study.corruptions, study.certificates]
    for path in tables:
        if path.exists():
            require_trials_of(path, read_csv(path), outcomes)


def with_certificates(results: Results, path: Path, **key: int) -> Results:
    """The results with the certificates of `path`, if it exists, beside every attack of the results.

    Args:
        key: columns that the table lacks.

    Raises:
        RuntimeError: an attack misclassifies an image within its largest certified eps.
    """
    if not path.exists():
        return results
    attacked = [results.outcomes, *results.suites.values()]
    if results.distances is not None:
        nearest = results.distances.dropna(subset="eps")
        attacked.append(nearest.assign(prediction=nearest["broken_prediction"], score=nearest["broken_score"]))
    certificates, rows = read_csv(path).assign(**key), pd.concat(attacked, ignore_index=True)
    keys = [*TRIAL, "source", "image"]
    beside = with_attacks(certificates, rows, results.scored, keys)
    require_certificates_hold(beside)
    largest = rows.merge(certificates.drop_duplicates(keys)[[*keys, "largest_eps"]], on=keys)
    proven = (largest["largest_eps"] > 0) & (largest["eps"] <= largest["largest_eps"])
    require_certificates_hold(largest.assign(certified=proven, attacked_prediction=largest["prediction"]))
    return replace(results, certificates=beside)


def _read_suites(
    study: StudyFolder, spec: StudySpec, classes: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """The rows of every stage of the suites, and the checks for gradient masking, by name."""
    present = {suite: read_csv(study.table(suite)) for suite in SUITES if study.table(suite).exists()}
    for suite, rows in present.items():
        require_rows(study.table(suite), spec, rows, classes)
    return stages_of(present), {suite: read_csv(study.checks(suite)) for suite in present}


def stages_of(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The rows of every stage of the tables of suites, by name: `adaptive` has `standard` as its first stage."""
    return {
        stage: rows[rows["attack"] == stage]
        for rows in tables.values()
        for stage in SUITES
        if stage in set(rows["attack"])
    }


def read_spec(study: StudyFolder) -> StudySpec:
    """The study that the folder is of. No code that it names is imported, because the folder may come from elsewhere.

    Raises:
        MirstError: as `load_spec`.
    """
    return load_spec(study.spec, trusted=False)


def read_run(study: StudyFolder) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads(study.run.read_text(encoding="utf-8"))
        run["data"]["classes"], run["data"]["positive"], run["data"]["fingerprint"], origin_of(run)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise MirstError(f"{study.run} is damaged ({error}); run the study again") from error
    return run


def read_csv(path: Path) -> pd.DataFrame:
    """A table of ours: a class or image may be called NA.

    Raises:
        MirstError: it cannot be read, or lacks a column.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(TEXT, str))
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise MirstError(f"{path} is damaged ({error}); {AGAIN}") from error
    missing = [column for column in COLUMNS.get(path.name, []) if column not in table]
    if missing:
        raise MirstError(f"{path} lacks the column {missing[0]}; {AGAIN}")
    return table
