"""The training curves of each defense, fold by fold."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from mirst.report.charts import Axis, Chart, Line, line_chart
from mirst.study import Results
from mirst.study.history import read_history
from mirst.study.named_configs import NamedDefense

CLEAN, ATTACKED, LOSS = 0, 1, 2
"""Numbers of the colours."""


@dataclass(frozen=True)
class TrainingCurve:
    """The training of one defense.

    >>> TrainingCurve("ce", charts=[], kept="3, 5", clean="0.8", attacked="not measured").kept
    '3, 5'
    """

    title: str
    charts: list[Chart]
    """Balanced accuracy, and the loss."""
    kept: str
    """The epochs whose weights were kept, in the order of the folds."""
    clean: str
    """Mean and range over the trials of the balanced accuracy at the kept epoch, on the validation images."""
    attacked: str
    """The same under PGD."""


def training_curves(results: Results) -> list[TrainingCurve]:
    """A curve for every defense with the history of a finished trial."""
    histories = {entry.title: _histories(results, entry) for entry in results.spec.defenses}
    histories = {title: trials for title, trials in histories.items() if trials}
    top = max((history["loss"].max() for trials in histories.values() for history in trials), default=1.0)
    return [_curve(title, trials, 1.05 * top) for title, trials in histories.items()]


def training_time(results: Results) -> str | None:
    """The sum over all trials; `None` if histories are missing or too old to state it."""
    histories = [history for entry in results.spec.defenses for history in _histories(results, entry)]
    if not histories or not all("seconds" in history for history in histories):
        return None
    return str(timedelta(seconds=round(sum(history["seconds"].sum() for history in histories))))


def _histories(results: Results, entry: NamedDefense) -> list[pd.DataFrame]:
    folders = [results.files.trial(trial.name) for trial in results.trials(entry)]
    return [read_history(folder) for folder in folders if folder.history.exists()]


def _curve(title: str, trials: list[pd.DataFrame], top: float) -> TrainingCurve:
    kept = pd.concat([history[history["kept"]] for history in trials])
    clean, attacked = _spread(kept["clean"]), _spread(kept["attacked"])
    epochs = ", ".join(str(number) for number in kept["number"])
    alt = (
        f"{title}: balanced accuracy on validation images and training loss by epoch, {len(trials)} trials. "
        f"At the kept epochs ({epochs or 'none'}) it is {clean} clean and {attacked} under PGD."
    )
    return TrainingCurve(title, _charts(title, trials, top, alt), epochs, clean, attacked)


def _spread(values: pd.Series) -> str:
    values = values.dropna()
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})" if len(values) else "not measured"


def _charts(title: str, trials: list[pd.DataFrame], top: float, alt: str) -> list[Chart]:
    last = max(history["number"].max() for history in trials)
    epochs = Axis("epoch; ● kept", 0, float(last))
    named = {"clean": ("clean", CLEAN), "attacked": ("under PGD", ATTACKED)}
    measured = {column: one for column, one in named.items() if any(own[column].notna().any() for own in trials)}
    accuracy = [_line(own, column, *one) for own in trials for column, one in measured.items()]
    loss = [_line(own, "loss", "", LOSS) for own in trials]
    return [
        line_chart(title, accuracy, epochs, Axis("balanced accuracy"), alt, height=180),
        line_chart(
            f"{title}: loss", loss, epochs, Axis("training loss", 0, top), f"{title}: loss by epoch", height=130
        ),
    ]


def _line(history: pd.DataFrame, column: str, label: str, series: int) -> Line:
    return Line(label, history["number"], history[column], series, np.flatnonzero(history["kept"]))
