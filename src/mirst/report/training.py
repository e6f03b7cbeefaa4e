"""The training curves of each defense, fold by fold."""

from dataclasses import dataclass
from datetime import timedelta

import pandas as pd
from matplotlib.figure import Figure

from mirst.report.figures import as_png, data_uri, without_frame
from mirst.study import Results
from mirst.study.history import read_history
from mirst.study.named_configs import NamedDefense

CLEAN, ATTACKED, LOSS = "#2b6cb0", "#c05621", "#4a5568"


@dataclass(frozen=True)
class TrainingCurve:
    """The training of one defense.

    >>> TrainingCurve("ce", "data:", "ce: no epochs", kept="3, 5", clean="0.8", attacked="not measured").kept
    '3, 5'
    """

    title: str
    picture: str
    """A data URI."""
    alt: str
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
    return TrainingCurve(title, data_uri(as_png(_figure(trials, top))), alt, epochs, clean, attacked)


def _spread(values: pd.Series) -> str:
    values = values.dropna()
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})" if len(values) else "not measured"


def _figure(trials: list[pd.DataFrame], top: float) -> Figure:
    figure = Figure(figsize=(3.6, 3.9), layout="constrained")
    accuracy, loss = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for history in trials:
        kept = history[history["kept"]]
        for axes, column, colour in (
            (accuracy, "clean", CLEAN),
            (accuracy, "attacked", ATTACKED),
            (loss, "loss", LOSS),
        ):
            axes.plot(history["number"], history[column], color=colour, linewidth=0.9, alpha=0.75)
            axes.plot(
                kept["number"], kept[column], "o", color=colour, markersize=4.5, markeredgecolor="white", zorder=3
            )
    accuracy.set(ylim=(-0.03, 1), ylabel="balanced accuracy")
    loss.set(ylim=(0, top), ylabel="loss", xlabel="epoch; ● kept")
    for label, column, colour in (("clean", "clean", CLEAN), ("under PGD", "attacked", ATTACKED)):
        if any(history[column].notna().any() for history in trials):
            accuracy.plot([], [], color=colour, label=label)
    if accuracy.get_legend_handles_labels()[0]:
        accuracy.legend(frameon=False, loc="lower right", ncols=2)
    for axes in (accuracy, loss):
        without_frame(axes)
    return figure
