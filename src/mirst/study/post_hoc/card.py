"""The model card of a trial, after an analysis has added tables to it."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mirst.evaluation import certified_rows
from mirst.study.history import read_history
from mirst.study.layout import SUITES, TrialFolder
from mirst.study.post_hoc.base import TrainedModel
from mirst.study.results import read_csv
from mirst.study.trial_outcomes import write_trial_card


def card_inputs(folder: TrialFolder) -> Iterator[Path]:
    """The files that `extend_card` reads."""
    yield from (folder.outcomes, folder.history, folder.certificates, *(folder.table(suite) for suite in SUITES))


def extend_card(trained: TrainedModel) -> None:
    """Add the suites that the model was attacked with, and its certificates, to its card."""
    folder, prepared = trained.folder, trained.prepared
    suites = [read_csv(folder.table(name)) for name in SUITES if folder.table(name).exists()]
    tables = [read_csv(folder.outcomes), *(rows[rows["attack"].isin(SUITES)] for rows in suites)]
    if folder.certificates.exists():
        tables.append(certified_rows(read_csv(folder.certificates), prepared.classes, prepared.positive))
    rows = pd.concat(tables).drop_duplicates(["image", "source", "attack", "eps"])
    history = read_history(folder) if folder.history.exists() else None
    write_trial_card(trained.trial, prepared, folder, history, rows)
