"""Whether a table of outcome rows is whole, and of this study."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from mirst.data import positive_class
from mirst.errors import MirstError
from mirst.metrics import CLASS_SCORE
from mirst.study.spec import StudySpec
from mirst.study.summary import TRIAL
from mirst.study.trial import all_trials

ROWS = [*TRIAL, "source", "image", "group", "label", "attack", "eps", "prediction", "score"]
AGAIN = "repeat the command that wrote the file"
_ONE_ROW = [*TRIAL, "attack", "eps", "source", "image"]
_FILLED = [column for column in ROWS if column != "score"]
_NUMBERS = ("fold", "seed", "eps", "score")


def require_rows(path: Path, spec: StudySpec, rows: pd.DataFrame, classes: Sequence[str]) -> None:
    """Every row is of a trial of the study, is filled and is there once. A score may be missing.

    Args:
        path: the file of the rows.
        rows: with the columns `ROWS`.

    Raises:
        MirstError: a row that is not; the sentence names its line.
    """
    for column in _FILLED:
        _refuse(path, rows[column].isna(), f"has no {column}")
    scores = [CLASS_SCORE + name for name in classes] if len(classes) > 2 else []
    missing = [column for column in scores if column not in rows or rows[column].isna().all()]
    if missing and positive_class(classes, spec.data.positive) is None:
        raise MirstError(f"{path} lacks the column {missing[0]}; {AGAIN}")
    for column in (*_NUMBERS, *(name for name in ("worst_score", *scores) if name in rows)):
        if not is_numeric_dtype(rows[column]):
            odd = pd.to_numeric(rows[column], errors="coerce").isna() & rows[column].notna()
            _refuse(path, odd, f"has a {column} that is not a number")
    known = {tuple(trial.key().values()) for trial in all_trials(spec)}
    trials = pd.Series(list(rows[TRIAL].itertuples(index=False, name=None)), index=rows.index, dtype=object)
    _refuse(path, ~trials.isin(known), "belongs to a trial that is not in the study")
    for column in ("label", "prediction"):
        _refuse(path, ~rows[column].isin(classes), f"has a {column} that is not a class of the study")
    _refuse(path, rows.duplicated(_ONE_ROW), "repeats an image of a trial under the same attack")


def require_every_trial(path: Path, spec: StudySpec, outcomes: pd.DataFrame, failed: pd.DataFrame) -> None:
    """Every trial that did not fail has the same number of rows, above 0, for no attack and for each attack.

    Raises:
        MirstError: a trial that has not, or an attack that the study does not have.
    """
    attacks = ["none", *(entry.label for entry in spec.attacks)]
    _refuse(path, ~outcomes["attack"].isin(attacks), "belongs to an attack that is not in the study")
    counts = outcomes.groupby([*TRIAL, "attack"]).size()
    failed_trials = set(failed[TRIAL].itertuples(index=False, name=None))
    for trial in all_trials(spec):
        key = tuple(trial.key().values())
        if key in failed_trials:
            continue
        clean = counts.get((*key, "none"), 0)
        for attack in attacks:
            if not clean or counts.get((*key, attack), 0) != clean:
                raise MirstError(f"{path} lacks rows of trial {trial.name}, attack {attack}; {AGAIN}")


def require_trials_of(path: Path, rows: pd.DataFrame, outcomes: pd.DataFrame) -> None:
    """A table of an analysis has rows of every trial that has outcome rows, or means over fewer trials would be shown.

    Raises:
        MirstError: a trial without rows.
    """
    present = set(rows[TRIAL].itertuples(index=False, name=None))
    for defense, drop_max, fold, seed in outcomes[TRIAL].drop_duplicates().itertuples(index=False, name=None):
        if (defense, drop_max, fold, seed) not in present:
            what = f"{defense}{' + drop-max' if drop_max else ''}, fold {fold}, seed {seed}"
            raise MirstError(f"{path} lacks the rows of the trial {what}; {AGAIN}")


def _refuse(path: Path, wrong: pd.Series, what: str) -> None:
    if wrong.any():
        line = int(wrong.to_numpy().argmax()) + 2  # after the header
        raise MirstError(f"line {line} of {path} {what}; {AGAIN}")
