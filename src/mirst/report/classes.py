"""Metrics of each class of a study of more than two classes."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mirst.evaluation import Interval
from mirst.metrics import AUC_MACRO, MetricInput, metric_named, quadratic_kappa
from mirst.report.context import ReportContext, of_defense
from mirst.report.exports import Table
from mirst.study.summary import pooled_class_intervals, pooled_interval

PER_CLASS = ("precision", "sensitivity", "specificity", "f1")
AUC = AUC_MACRO.name
MACRO, WEIGHTED, KAPPA = "macro average", "weighted average", "quadratic kappa"
PLACE = ["defense", "attack", "class", "images"]


def class_tables(context: ReportContext) -> Table:
    """Metrics of each class against all others, with no attack and under the strongest attacks.

    Precision, sensitivity, specificity, F1 and AUC are pooled over folds and seeds, with 95 % intervals over groups.
    Below the classes are the mean over them, the mean weighted by their images, with for ordered classes
    (`data.ordinal`) the quadratic kappa of all images, which has no interval. Rows of older versions have no scores of
    the classes, and so no AUC.
    """
    rows = list(_rows(context))
    numbers = pd.DataFrame(
        [(*place, metric, one.value, one.low, one.high) for place, found in rows for metric, one in found.items()],
        columns=[*PLACE, "metric", "value", "low", "high"],
    )
    titles = {name: metric_named(name).title for name in PER_CLASS} | {AUC: "AUC", KAPPA: KAPPA}
    shown = pd.DataFrame(
        [
            dict(zip(PLACE, place, strict=True)) | {titles[name]: _text(one) for name, one in found.items()}
            for place, found in rows
        ]
    )
    return Table(shown.fillna(""), numbers)


def _text(one: Interval) -> str:
    """Without an interval where there is none."""
    return f"{one.value:.3f}" if np.isnan(one.low) and not np.isnan(one.value) else str(one)


Place = tuple[str, str, str, int]


def _rows(context: ReportContext) -> Iterator[tuple[Place, dict[str, Interval]]]:
    classes, positive = context.results.classes, context.results.positive
    for title, attack, rows in _conditions(context):
        images = rows.drop_duplicates(["source", "image"])["label"].value_counts()
        scored = MetricInput.of_rows(rows, classes, positive).class_scores is not None
        metrics = [*PER_CLASS, *([AUC] if scored else [])]
        found = {metric: pooled_class_intervals(rows, classes, metric) for metric in metrics}
        for number, name in enumerate(classes):
            yield (
                (title, attack, name, int(images.get(name, 0))),
                {metric: own[number] for metric, (own, _) in found.items()},
            )
        macro = {metric: pooled_interval(rows, classes, positive, metric) for metric in metrics}
        yield (title, attack, MACRO, int(images.sum())), macro
        weighted = {metric: mean for metric, (_, mean) in found.items()}
        if context.results.spec.data.ordinal:
            weighted[KAPPA] = Interval(quadratic_kappa(rows["label"], rows["prediction"], classes), np.nan, np.nan)
        yield (title, attack, WEIGHTED, int(images.sum())), weighted


def _conditions(context: ReportContext) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Title of the defense, attack and rows."""
    for entry in context.results.spec.defenses:
        if context.results.is_whole(entry):
            for attack, rows in context.clean_and_strongest.items():
                yield entry.title, attack, of_defense(rows, entry)
