"""Tables of one model on one set of images, from the rows of `mirst.evaluation.evaluate`."""

from pathlib import Path

import numpy as np
import pandas as pd

from mirst.evaluation import metrics_of
from mirst.files import write_csv, write_text
from mirst.metrics import named_class_scores
from mirst.nn import ModelCard
from mirst.report.context import pixels
from mirst.report.exports import markdown

LIMITS = (
    "One model on one set of images: the numbers do not show the spread over folds or trainings.",
    "Only the attacks in this table were run; a stronger attack may misclassify more images.",
)


def write_evaluation(out: str | Path, rows: pd.DataFrame, card: ModelCard) -> Path:
    """Write `outcomes.csv` (the rows, classes by name), `metrics.csv` and `table.md` into the folder `out`.

    Args:
        rows: as from `evaluate` or `mirst.evaluation.worst_case.worst_case`, labels and predictions being indices of
            `card.classes`.
        card: gives the classes and the positive class.

    Returns:
        The path of `table.md`, a row per attack and eps: the number of images and every metric.

    Raises:
        MirstError: a file cannot be written.
    """
    classes = np.array(card.classes)
    named = rows.assign(label=classes[rows["label"]], prediction=classes[rows["prediction"]])
    named = named_class_scores(named, card.classes)
    metrics = metrics_of(named, card)
    counts = named.groupby(["attack", "eps"], sort=False).size()
    metrics.insert(2, "images", counts.to_numpy())
    shown = metrics.assign(eps=metrics["eps"].map(pixels))
    numbers = shown.columns[3:]
    shown[numbers] = shown[numbers].map("{:.3f}".format)
    if len(card.classes) == 2:
        what = f"Positive class: {card.positive}"
    elif card.positive is None:
        what = "Macro averages over the classes"
    else:
        what = f"AUC: {card.positive} against the other classes"
    notes = [f"{what}. Trained with the defense: {card.defense}.", *LIMITS]
    folder = Path(out)
    write_csv(folder / "outcomes.csv", named)
    write_csv(folder / "metrics.csv", metrics)
    write_text(folder / "table.md", "\n".join([markdown(shown), *(f"- {note}" for note in notes), ""]))
    return folder / "table.md"
