"""Abstention: the error among the images that a model keeps, clean and under attack."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirst.evaluation.calibration import RiskCoverage
from mirst.report.calibration import COLOURS
from mirst.report.exports import Table
from mirst.report.figures import as_png, data_uri, without_frame
from mirst.report.held_out import HeldOut

KEPT = (1.0, 0.9, 0.8, 0.5)
PLACE = ["defense", "attack", "calibrated_on"]


@dataclass(frozen=True)
class Curve:
    """The risk-coverage curves of one defense.

    >>> Curve("ce", "data:image/png;base64,", "ce: no images").title
    'ce'
    """

    title: str
    picture: str
    alt: str


def risk_coverage(one: HeldOut) -> RiskCoverage:
    """By the calibrated probability of the predicted class."""
    predicted = [one.classes.index(name) for name in one.rows["prediction"]]
    confidence = one.calibrated[np.arange(len(predicted)), predicted]
    return RiskCoverage.of(confidence, (one.rows["prediction"] != one.rows["label"]).to_numpy())


def abstention_table(found: Sequence[HeldOut]) -> Table:
    """The area under each curve, and the error where the shares `KEPT` of the images are kept."""
    lines = []
    for one in found:
        curve = risk_coverage(one)
        lines.append((one.defense, one.attack, one.calibrated_on, curve.area, *map(curve.at, KEPT)))
    numbers = pd.DataFrame(lines, columns=[*PLACE, "area", *(f"error_at_{share:g}" for share in KEPT)])
    titles = ["area under the curve", *(f"error, {share:.0%} kept".replace("%", " %") for share in KEPT)]
    cells = numbers.drop(columns=PLACE).map("{:.3f}".format).set_axis(titles, axis=1)
    shown = pd.concat([numbers[PLACE].rename(columns={"calibrated_on": "calibrated on"}), cells], axis=1)
    return Table(shown, numbers)


def abstention_curves(found: Sequence[HeldOut]) -> list[Curve]:
    """A figure per defense, with a curve for each of its attacks, of which there are at most two."""
    curves = []
    for title in dict.fromkeys(one.defense for one in found):
        own = {one.attack: risk_coverage(one) for one in found if one.defense == title}
        areas = ", ".join(f"{attack} {curve.area:.3f}" for attack, curve in own.items())
        alt = f"{title}: error among the images kept, by the share kept. Area under the curve: {areas}."
        curves.append(Curve(title, data_uri(as_png(_figure(own))), alt))
    return curves


def _figure(own: dict[str, RiskCoverage]) -> Figure:
    figure = Figure(figsize=(3.6, 3.1), layout="constrained")
    axes = figure.subplots()
    for (attack, curve), colour in zip(own.items(), COLOURS, strict=True):
        axes.plot(curve.kept, curve.risk, color=colour, label=attack, linewidth=1.2)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="share of images kept", ylabel="error among them")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    without_frame(axes)
    return figure
