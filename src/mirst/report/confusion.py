"""Confusion matrices, pooled over the folds."""

from dataclasses import dataclass

import pandas as pd

from mirst.report.context import ReportContext, of_defense


@dataclass(frozen=True)
class ConfusionCell:
    """A cell of a confusion matrix.

    >>> ConfusionCell(count=9, share=0.75, correct=True).share
    0.75
    """

    count: int
    share: float
    """Of the images of the true class."""
    correct: bool
    """Whether the predicted class is the true one."""


@dataclass(frozen=True)
class Confusion:
    """The confusion matrices of one defense.

    >>> Confusion("ce", ("benign", "malignant"), blocks={}).classes
    ('benign', 'malignant')
    """

    title: str
    classes: tuple[str, ...]
    """The predicted classes, in the order of the cells."""
    blocks: dict[str, dict[str, list[ConfusionCell]]]
    """By attack, then by true class: a cell for each predicted class."""


def confusions(context: ReportContext) -> list[Confusion]:
    """For every defense that did not diverge: clean, under PGD, and under the strongest suite that was run."""
    results, found = context.results, []
    for entry in results.spec.defenses:
        blocks = {name: of_defense(rows, entry) for name, rows in context.conditions.items()}
        if all(len(rows) for rows in blocks.values()):
            tables = {name: _block(rows, results.classes) for name, rows in blocks.items()}
            found.append(Confusion(entry.title, results.classes, tables))
    return found


def _block(rows: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, list[ConfusionCell]]:
    counts = pd.crosstab(rows["label"], rows["prediction"]).reindex(index=classes, columns=classes, fill_value=0)
    return {
        label: [
            ConfusionCell(int(count), count / max(1, row.sum()), predicted == label)
            for predicted, count in zip(classes, row, strict=True)
        ]
        for label, row in zip(classes, counts.to_numpy(), strict=True)
    }
