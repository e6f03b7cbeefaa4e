"""From the folders of the trials to the tables of a study."""

import warnings
from collections.abc import Sequence

import pandas as pd

from mirst.errors import MirstError
from mirst.files import write_csv
from mirst.study.attributes import write_attributes
from mirst.study.baselines import write_baselines
from mirst.study.layout import StudyFolder
from mirst.study.prepared import Prepared
from mirst.study.results import FAILED_COLUMNS, read_csv
from mirst.study.summary import summarise
from mirst.study.trial import Trial


def collect(study: StudyFolder, trials: Sequence[Trial], prepared: Prepared) -> None:
    """Write `outcomes.csv`, `failed.csv` and `summary.csv` from the folders of the trials.

    Also `baselines.csv` and `records.csv`, where the study has them.

    Raises:
        MirstError: every trial failed.
    """
    reasons = {trial: study.trial(trial.name).failure() for trial in trials}
    failed = [trial.key() | {"reason": reason} for trial, reason in reasons.items() if reason]
    finished = finished_trials(study, trials)
    if not finished:
        raise MirstError(f"every trial failed; the first: {failed[0]['reason']}")
    write_csv(study.failed, pd.DataFrame(failed, columns=FAILED_COLUMNS))
    study.old_failed.unlink(missing_ok=True)
    write_csv(study.outcomes, joined(study, finished, "outcomes"))
    outcomes = read_csv(study.outcomes)
    incomplete = {(row["defense"], row["drop_max"]) for row in failed}
    whole = [key not in incomplete for key in zip(outcomes["defense"], outcomes["drop_max"], strict=True)]
    write_csv(study.summary, summarise(outcomes[whole], prepared.classes, prepared.positive))
    write_baselines(study, prepared)
    write_attributes(study, prepared.records)


def remove_partial_tables(study: StudyFolder, trials: Sequence[Trial]) -> None:
    """Remove tables of earlier analyses that lack trials which have finished since, and warn.

    The rows of the other trials stay in their folders, so `mirst evaluate` analyses only the missing trials.
    """
    trials = finished_trials(study, trials)
    tables = [(one, path) for one in (study, *study.external_sets()) for path in sorted(one.path.glob("*.csv"))]
    for one, path in tables:
        lacking = [trial for trial in trials if not one.trial(trial.name).table(path.stem).exists()]
        if 0 < len(lacking) < len(trials):
            path.unlink()
            warnings.warn(
                f"{path.relative_to(study.path)} lacked {len(lacking)} of {len(trials)} models, so it was removed; "
                "repeat the command that wrote it to analyse the others",
                stacklevel=2,
            )


def finished_trials(study: StudyFolder, trials: Sequence[Trial]) -> list[Trial]:
    """The trials that have a model: those that did not fail."""
    return [trial for trial in trials if not study.trial(trial.name).failure()]


def joined(study: StudyFolder, trials: Sequence[Trial], table: str) -> pd.DataFrame:
    """The rows of a table of every trial, as text: no number is rounded, and a class may be called NA."""
    files = [study.trial(trial.name).table(table) for trial in trials]
    return pd.concat(pd.read_csv(file, dtype=str, keep_default_na=False) for file in files)
