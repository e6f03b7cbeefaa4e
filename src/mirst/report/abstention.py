"""Abstention: the error among the images that a model keeps, clean and under attack."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mirst.evaluation.calibration import RiskCoverage
from mirst.report.charts import Axis, Chart, Line, line_chart
from mirst.report.exports import Table
from mirst.report.held_out import HeldOut

KEPT = (1.0, 0.9, 0.8, 0.5)
PLACE = ["defense", "attack", "calibrated_on"]


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


def abstention_curves(found: Sequence[HeldOut]) -> list[Chart]:
    """A figure per defense, with a curve for each of its attacks, of which there are at most two."""
    curves = []
    for title in dict.fromkeys(one.defense for one in found):
        own = {one.attack: risk_coverage(one) for one in found if one.defense == title}
        areas = ", ".join(f"{attack} {curve.area:.3f}" for attack, curve in own.items())
        alt = f"{title}: error among the images kept, by the share kept. Area under the curve: {areas}."
        lines = [Line(attack, curve.kept, curve.risk, number) for number, (attack, curve) in enumerate(own.items())]
        curves.append(line_chart(title, lines, Axis("share of images kept"), Axis("error among them"), alt))
    return curves
