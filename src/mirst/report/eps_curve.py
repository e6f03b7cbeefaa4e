"""How F1 and accuracy fall as the attack may change the pixels more."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mirst.evaluation import LARGEST, classification_metrics, curve
from mirst.report.figures import as_png, data_uri
from mirst.report.tables import METRIC_NAMES, of_defense
from mirst.study import Results

DRAWN = ("f1", "accuracy")
TABLED = (0, 0.5, 1, 2, 3, 4, 5, 6, 8, 12, 16)
"""Gray levels."""
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class EpsCurve:
    picture: str
    alt: str
    table: pd.DataFrame
    """F1: a row per eps, as text, a column per defense."""
    suite: str | None
    """The strongest that was run; what it reached is marked beside the curves."""


def eps_curve(results: Results) -> EpsCurve | None:
    """F1 and accuracy over eps, pooled over the folds; `None` where the smallest breaking eps were not searched."""
    if results.distances is None:
        return None
    levels = [step / 4 for step in range(round(LARGEST * 255) * 4 + 1)]
    curves = {}
    for entry in results.spec.defenses:
        rows = of_defense(results.distances, entry)
        if len(rows):
            curves[entry.title] = curve(rows, [level / 255 for level in levels], results.classes, results.positive)
    table = pd.DataFrame({title: one["f1"].to_numpy() for title, one in curves.items()}, index=levels)
    table = table.loc[list(TABLED)]
    table.index = pd.Index([f"{level:g}/255" if level else "0" for level in table.index])
    halves = {title: _half(one) for title, one in curves.items()}
    alt = "F1 and accuracy of every defense over eps. F1 falls below half of its clean value " + ", ".join(
        f"for {title} {where}" for title, where in halves.items()
    )
    picture = data_uri(as_png(_figure(results, curves)))
    return EpsCurve(picture, f"{alt}; the table holds the numbers.", table, next(reversed(results.suites), None))


def _half(one: pd.DataFrame) -> str:
    below = one[one["f1"] < one["f1"].iloc[0] / 2]
    return f"from {below['eps'].iloc[0] * 255:g}/255 on" if len(below) else f"nowhere up to {LARGEST * 255:g}/255"


def _figure(results: Results, curves: dict[str, pd.DataFrame]) -> Figure:
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    panels: Any = figure.subplots(1, len(DRAWN), sharey=True)
    for axes, metric in zip(panels, DRAWN, strict=True):
        for number, (title, one) in enumerate(curves.items()):
            colour = f"C{number}"
            axes.plot(one["eps"] * 255, one[metric], LINES[number % len(LINES)], color=colour, label=title)
        axes.set(xlabel="eps, in gray levels of 255", ylabel=METRIC_NAMES[metric], ylim=(0, 1), xlim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    for number, entry in enumerate(results.spec.defenses):
        for rows in list(results.suites.values())[-1:]:
            own = of_defense(rows, entry)
            for eps in own["eps"].unique():
                at = own[own["eps"] == eps]
                reached = classification_metrics(
                    at["label"], at["prediction"], at["score"], results.classes, results.positive
                )
                for axes, metric in zip(panels, DRAWN, strict=True):
                    axes.plot(eps * 255, reached[metric], "x", color=f"C{number}", markersize=6)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(curves), frameon=False)
    return figure
