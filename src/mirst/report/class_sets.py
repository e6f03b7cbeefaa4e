"""Sets of classes that contain the true class at a chosen rate: how often they do, clean and under attack."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from mirst.evaluation import Interval
from mirst.evaluation.calibration import coverage_interval
from mirst.report.exports import Table
from mirst.report.held_out import HeldOut

COVERAGE = 0.9
ALL = "all classes"
PLACE = ["defense", "attack", "calibrated_on"]
COLUMNS = [*PLACE, "class", "wanted", "images", "coverage", "low", "high", "size", "answered", "empty"]


def set_table(found: Sequence[HeldOut]) -> Table:
    """Coverage of the sets at `COVERAGE`, for all images and for those of each class.

    The numbers are a row per defense, attack, calibration and class: the share of `images` whose set contains the true
    class, with its 95 % interval over groups; the mean `size` of the sets; the share that is `answered`, where the set
    is the predicted class alone; and the share of `empty` sets. An image without finite logits has an empty set.
    """
    numbers = pd.DataFrame([line for one in found for line in _lines(one)], columns=COLUMNS)
    shown = []
    for place, rows in numbers.groupby(PLACE, sort=False):
        cells = [str(Interval(*ends)) for ends in rows[["coverage", "low", "high"]].to_numpy()]
        every = rows[rows["class"] == ALL].iloc[0]
        shown.append((*place, every["images"], *cells, f"{every['size']:.2f}", f"{every['answered']:.3f}"))
    classes = list(numbers["class"].unique())
    titles = ["coverage" if name == ALL else f"of {name}" for name in classes]
    columns = ["defense", "attack", "calibrated on", "images", *titles, "mean size", "not abstained"]
    return Table(pd.DataFrame(shown, columns=columns), numbers)


def _lines(one: HeldOut) -> Iterator[tuple[object, ...]]:
    sets, groups = one.sets(COVERAGE), one.rows["group"].to_numpy()
    is_covered = sets[np.arange(len(sets)), one.labels]
    predicted = [one.classes.index(name) for name in one.rows["prediction"]]
    sizes = sets.sum(1)
    is_answered = (sizes == 1) & sets[np.arange(len(sets)), predicted]
    for number, name in enumerate((ALL, *one.classes)):
        at = one.labels == number - 1 if number else np.ones(len(sets), dtype=bool)
        if at.any():
            share = coverage_interval(is_covered[at], groups[at])
            own = sizes[at]
            place = (one.defense, one.attack, one.calibrated_on, name, COVERAGE, int(at.sum()))
            yield *place, share.value, share.low, share.high, own.mean(), is_answered[at].mean(), (own == 0).mean()
