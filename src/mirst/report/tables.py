"""Tables of mean ± standard deviation over the folds, in the shape of MIRST-DM's Table 1."""

import numpy as np
import pandas as pd

from mirst.evaluation import CLEAN
from mirst.metrics import AUC_ATTACKED, metric_named, study_metrics
from mirst.report.baselines import baseline_title, baseline_titles
from mirst.report.context import PROTOCOL, ReportContext, pixels, suite_at, title
from mirst.report.exports import markdown
from mirst.report.study_notes import notes
from mirst.study import Results
from mirst.study.layout import StudyFolder
from mirst.study.results import read_csv


def attack_titles(results: Results) -> dict[str, str]:
    """The row heading of each attack, clean first, as `ReportContext.summary` names them."""
    names = {entry.label: f"{entry.label} (eps {pixels(entry.attack.eps)})" for entry in results.spec.attacks}
    strong = {
        suite_at(suite, eps): f"{suite} (eps {pixels(eps)})"
        for suite, rows in results.suites.items()
        for eps in sorted(rows["eps"].unique())
    }
    if "standard" not in results.suites:
        strong = {"standard": "standard (not run)", **strong}
    return {CLEAN: "no attack", **names, PROTOCOL: f"paper protocol: worst of {', '.join(names)}", **strong}


def metric_table(context: ReportContext, metric: str) -> pd.DataFrame:
    """`mean ± std` over the folds: a row per attack, a column per defense, then one per baseline.

    A cell says in how many folds the metric is defined if these are not all. It is `-` if a trial has no rows or no
    fold defines the metric. The AUC under attack has rows only for the attacks under which it was measured.
    """
    results, measured = context.results, context.summary[context.summary["metric"] == metric]
    headings, folds = attack_titles(results), results.spec.folds.count
    if metric == AUC_ATTACKED.name:
        headings = {attack: heading for attack, heading in headings.items() if attack in set(measured["attack"])}
    cells = {
        (title(row["defense"], row["drop_max"]), headings[row["attack"]]): over_folds(
            row["mean"], row["std"], row["folds"], folds
        )
        for row in measured.to_dict("records")
    }
    columns = [*(entry.title for entry in results.spec.defenses), *baseline_titles(results)]
    return pd.DataFrame(
        {column: [cells.get((column, heading), "-") for heading in headings.values()] for column in columns},
        index=list(headings.values()),
    )


def measured_metrics(context: ReportContext) -> list[str]:
    """Those of `study_metrics`, and `auc_attacked` if a suite measured it."""
    attacked = AUC_ATTACKED.name in set(context.summary["metric"])
    return [*study_metrics(context.results.positive), *([AUC_ATTACKED.name] if attacked else [])]


def over_folds(mean: float, std: float, defined: int, folds: int) -> str:
    """`mean ± std`, and in how many folds the metric is defined if these are not all; `-` if it is in none.

    >>> over_folds(0.5, 0.125, 3, 3), over_folds(0.5, 0.125, 2, 3), over_folds(0.5, float("nan"), 1, 3)
    ('0.500 ± 0.125', '0.500 ± 0.125 (2 of 3 folds)', '0.500 (1 of 3 folds)')
    """
    if np.isnan(mean):
        return "-"
    spread = "" if np.isnan(std) else f" ± {std:.3f}"
    return f"{mean:.3f}{spread}" + (f" ({defined} of {folds} folds)" if defined < folds else "")


def corruption_grid(results: Results, metric: str, folder: StudyFolder) -> pd.DataFrame | None:
    """The metric averaged over the folds and seeds in which it is defined, a column per defense.

    Each row is a corruption and severity. `None` if the study was not run under corruptions.

    Args:
        folder: of the study, or of its validation on another data set.
    """
    path = folder.corruptions
    if not path.exists():
        return None
    rows = read_csv(path)
    rows["column"] = [title(d, m) for d, m in zip(rows["defense"], rows["drop_max"], strict=True)]
    grid = rows.pivot_table(index=["corruption", "severity"], columns="column", values=metric, sort=False)
    return grid.reindex(columns=[entry.title for entry in results.spec.defenses])


def box_grid(results: Results, metric: str) -> pd.DataFrame | None:
    """The metric with misplaced boxes, averaged over the folds and seeds in which it is defined.

    A column per defense, then one per baseline. Each reach has a row for the mean over all placements of the boxes and
    one for the worst of them, image by image.
    `None` if the study was not run with misplaced boxes.
    """
    files = results.files
    if not files.boxes.exists():
        return None
    rows = read_csv(files.boxes)
    rows["column"] = [title(d, m) for d, m in zip(rows["defense"], rows["drop_max"], strict=True)]
    columns = [entry.title for entry in results.spec.defenses]
    if files.boxes_baselines.exists():
        baselines = read_csv(files.boxes_baselines)
        rows = pd.concat([rows, baselines.assign(column=baselines["defense"].map(baseline_title))])
        columns += baseline_titles(results)
    rows["boxes"] = rows["placement"].map({"true": "as given", "moved": "mean", "worst": "worst per image"})
    grid = rows.pivot_table(index=["reach", "boxes"], columns="column", values=metric)
    return grid.reindex(columns=columns)


def paper_table(context: ReportContext) -> str:
    """The headline metrics as a Markdown table, with the notes below it."""
    return "\n".join([markdown(paper_rows(context)), *(f"- {note}" for note in notes(context.results)), ""])


def paper_rows(context: ReportContext) -> pd.DataFrame:
    """The headline metrics as in MIRST-DM's tables, and `auc_attacked` if a suite measured it.

    A row per metric and attack, a column per defense.
    """
    parts = []
    for metric in map(metric_named, measured_metrics(context)):
        if metric.headline or metric is AUC_ATTACKED:
            part = metric_table(context, metric.name)
            part.insert(0, "metric", metric.title)
            part.insert(1, "attack", part.index)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)
