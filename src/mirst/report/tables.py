"""Tables in the shape of MIRST-DM's Table 1, and the sentences that must stand below them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from mirst.evaluation import TRIAL, classification_metrics, summarise, worst_rows
from mirst.report.exports import markdown
from mirst.study import Results
from mirst.study.named_configs import NamedDefense, short_of_edge

CLEAN = "none"
PROTOCOL = "paper protocol"
METRIC_NAMES = {
    "f1": "F1 score",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auc": "AUC",
    "accuracy": "Accuracy",
}
PAPER_METRICS = ("f1", "sensitivity")


def title(defense: str, drop_max: bool) -> str:
    """The column heading of a defense."""
    return f"{defense}+dm" if drop_max else defense


def of_defense(rows: pd.DataFrame, entry: NamedDefense) -> pd.DataFrame:
    """The rows of one column."""
    return rows[(rows["defense"] == entry.label) & (rows["drop_max"] == entry.drop_max)]


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a finite score."""
    finite: pd.DataFrame = rows[np.isfinite(rows["score"])]
    return finite


def attack_titles(results: Results) -> dict[str, str]:
    """The row heading of each attack, clean first, as `whole_summary` names them."""
    names = {entry.label: f"{entry.label} (eps {pixels(entry.attack.eps)})" for entry in results.spec.attacks}
    strong = {
        _at(suite, eps): f"{suite} (eps {pixels(eps)})"
        for suite, rows in results.suites.items()
        for eps in sorted(rows["eps"].unique())
    }
    if "standard" not in results.suites:
        strong = {"standard": "standard (not run)", **strong}
    return {CLEAN: "no attack", **names, PROTOCOL: f"paper protocol: worst of {', '.join(names)}", **strong}


@lru_cache(maxsize=1)
def whole_summary(results: Results) -> pd.DataFrame:
    """The study's summary, then the worst of its own attacks per image, then each suite at each eps."""
    attacked = results.outcomes[results.outcomes["attack"] != CLEAN]
    parts = [worst_rows(attacked, PROTOCOL, results.positive)]
    for suite, rows in results.suites.items():
        parts.append(rows.assign(attack=[_at(suite, eps) for eps in rows["eps"]]))
    rows = pd.concat(parts)
    kept = pd.MultiIndex.from_frame(results.summary[["defense", "drop_max"]].drop_duplicates())
    rows = rows[pd.MultiIndex.from_frame(rows[["defense", "drop_max"]]).isin(kept)]
    return pd.concat([results.summary, summarise(rows, results.classes, results.positive)])


def every_row(results: Results) -> pd.DataFrame:
    """Of the study's own attacks and of all suites."""
    return pd.concat([results.outcomes, *results.suites.values()])


def _at(suite: str, eps: float) -> str:
    return f"{suite} {eps:.6g}"


def metric_table(results: Results, metric: str) -> pd.DataFrame:
    """`mean ± std` over the folds: a row per attack, a column per defense; `-` where a trial has no rows or no fold
    defines the metric."""
    headings = attack_titles(results)
    summary = whole_summary(results)
    rows = summary[summary["metric"] == metric]
    cells = {
        (title(defense, drop_max), headings[attack]): over_folds(mean, std)
        for defense, drop_max, attack, mean, std in rows[["defense", "drop_max", "attack", "mean", "std"]].itertuples(
            index=False
        )
    }
    columns = [entry.title for entry in results.spec.defenses]
    return pd.DataFrame(
        {column: [cells.get((column, heading), "-") for heading in headings.values()] for column in columns},
        index=list(headings.values()),
    )


def over_folds(mean: float, std: float) -> str:
    """`mean ± std`; the mean alone where only one fold defines the metric, `-` where none does."""
    if np.isnan(mean):
        return "-"
    return f"{mean:.3f}" if np.isnan(std) else f"{mean:.3f} ± {std:.3f}"


def corruption_grid(results: Results, metric: str) -> pd.DataFrame | None:
    """The metric averaged over folds and seeds: a row per corruption and severity, a column per defense.

    `None` where the study was not run under corruptions.
    """
    path = results.files.corruptions
    if not path.exists():
        return None
    rows = pd.read_csv(path)
    rows["column"] = [title(d, m) for d, m in zip(rows["defense"], rows["drop_max"], strict=True)]
    grid = rows.pivot_table(index=["corruption", "severity"], columns="column", values=metric, sort=False)
    return grid.reindex(columns=[entry.title for entry in results.spec.defenses])


def paper_table(results: Results) -> str:
    """F1 and sensitivity as a Markdown table, with the notes below it."""
    return "\n".join([markdown(paper_rows(results)), *(f"- {note}" for note in notes(results)), ""])


def paper_rows(results: Results) -> pd.DataFrame:
    """F1 and sensitivity as in MIRST-DM's tables: a row per metric and attack, a column per defense."""
    parts = []
    for metric in PAPER_METRICS:
        part = metric_table(results, metric)
        part.insert(0, "metric", METRIC_NAMES[metric])
        part.insert(1, "attack", part.index)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def notes(results: Results) -> list[str]:
    """What a reader must know to read the numbers."""
    spec, data = results.spec, results.run["data"]
    images = ", ".join(f"{count} {name}" for name, count in data["per_class"].items())
    binary = len(results.classes) == 2
    what = f"positive class: {results.positive}" if binary else "macro averages over the classes"
    return [
        *_masking(results),
        f"Mean ± standard deviation over {spec.folds.count} {spec.folds.kind} folds, {len(spec.seeds)} seed(s); "
        f"{what}. {images}; {data['groups']} groups; {spec.model.name} from {weights_of(results)} at "
        f"{spec.data.size} px.",
        *_undefined(results),
        *(_trivial(results) if binary else []),
        *_conflicts(results),
        *_leak(results),
        *_short_attacks(results),
        *_diverged(results),
        *_unscored(results),
        *(f"COLLAPSED: {sentence}" for sentence in one_answer(every_row(results), results.classes, results.positive)),
    ]


def _masking(results: Results) -> list[str]:
    """Whether the suites' numbers can be believed."""
    sentences = []
    for suite, checks in results.checks.items():
        odd = checks[checks["verdict"] != "pass"]
        told = [
            f"{title(row['defense'], row['drop_max'])} {row['verdict']} ({row['name']}: {row['figures']})"
            for row in odd.to_dict("records")
        ]
        sentences.append(
            f"MASKING: {'; '.join(told)}; the numbers under {suite} may be too good (docs/masking.md)."
            if told
            else f"Masking: the models of fold 0 passed all {checks['name'].nunique()} checks under {suite}."
        )
    return sentences


def _unscored(results: Results) -> list[str]:
    rows = every_row(results)
    missing = rows[~np.isfinite(rows["score"])]
    if missing.empty:
        return []
    defenses = {title(label, drop_max) for label, drop_max in zip(missing["defense"], missing["drop_max"], strict=True)}
    return [
        f"WITHOUT A SCORE: {len(missing)} of {len(rows)} rows ({', '.join(sorted(defenses))}). Calibration and "
        "operating threshold leave them out; AUC ranks them on the wrong side."
    ]


def weights_of(results: Results) -> str:
    """What the trainings started from."""
    loaded = results.run.get("weights")
    if loaded is None:
        return "random weights"
    return f"the weights {loaded['source']} ({loaded['matched']} of {loaded['of']} tensors, {loaded['sha256'][:8]})"


def _trivial(results: Results) -> list[str]:
    return [
        f"A model that answers {results.positive} whatever it sees scores F1 "
        f"{constant_f1(results.outcomes, results.positive, results.classes, results.positive):.3f} and "
        "sensitivity 1.000, clean and under any attack: read both beside specificity and AUC."
    ]


def _undefined(results: Results) -> list[str]:
    """In which folds the test images leave a metric undefined; that depends on their labels alone."""
    count = results.spec.folds.count
    clean = results.summary[results.summary["attack"] == CLEAN].drop_duplicates("metric")
    names: dict[int, list[str]] = {}
    for metric, folds in clean[clean["folds"] < count][["metric", "folds"]].itertuples(index=False):
        names.setdefault(folds, []).append(METRIC_NAMES[metric])
    return [
        f"UNDEFINED: {', '.join(metrics)}: over {folds} of {count} folds; the test images of the others lack a class "
        "that is needed."
        for folds, metrics in sorted(names.items())
    ]


def _conflicts(results: Results) -> list[str]:
    data, groups = results.spec.data, results.run["data"]["conflicts"]
    sentences = []
    if data.relabel:
        sentences.append(f"{len(data.relabel)} image(s) were filed anew by data.relabel.")
    if groups:
        count = sum(len(group) for group in groups)
        fate = "left out (data.conflicts: drop)" if data.conflicts == "drop" else "kept as filed (data.conflicts: keep)"
        sentences.append(
            f"LABEL CONFLICTS: {count} images in {len(groups)} groups of look-alikes are filed under more than one "
            f"class; they were {fate}."
        )
    return sentences


def _leak(results: Results) -> list[str]:
    if results.spec.folds.kind == "group":
        return []
    data = results.run["data"]
    if data["groups"] == data["images"]:
        return []
    return [
        f"RANDOM FOLDS LEAK: images were split one by one, although {data['images']} images form {data['groups']} "
        "groups of near-duplicates or patients; test images have siblings in training, which makes every number "
        "here too high."
    ]


def _short_attacks(results: Results) -> list[str]:
    return [sentence for entry in results.spec.attacks if (sentence := short_of_edge(entry))]


def _diverged(results: Results) -> list[str]:
    return [
        f"{'DIVERGED' if 'diverged' in row['reason'] else 'KILLED'}: "
        f"{title(row['defense'], row['drop_max'])} on fold {row['fold']} with seed {row['seed']} "
        f"({row['reason']}); its column shows '-', since the mean of the other trials would flatter it."
        for row in results.diverged.to_dict("records")
    ]


def one_answer(rows: pd.DataFrame, classes: Sequence[str], positive: str) -> list[str]:
    """Which models answer one class for all images, without attack or under one, a sentence per model and class.

    Args:
        rows: outcome rows, with the columns of a study's trials where they are of a study.
    """
    attacks: dict[tuple[str, str], list[str]] = {}
    f1: dict[tuple[str, str], float] = {}
    for _, own in rows.groupby([*(column for column in TRIAL if column in rows), "attack", "eps"], sort=False):
        first = own.iloc[0]
        if own["prediction"].nunique(dropna=False) == 1:
            model, answer = _title_of_trial(first), str(first["prediction"])
            name = "no attack" if first["attack"] == CLEAN else f"{first['attack']} at eps {pixels(first['eps'])}"
            attacks.setdefault((model, answer), []).append(name)
            f1[model, answer] = constant_f1(own, answer, classes, positive)
    return [
        f"{model} answers {answer} for every test image under {', '.join(names)}: these numbers say nothing about "
        f"robustness; answering {answer} whatever it sees gives F1 {f1[model, answer]:.3f} on these images."
        for (model, answer), names in attacks.items()
    ]


def _title_of_trial(row: "pd.Series[Any]") -> str:
    if "fold" not in row:
        return "the model"
    return f"{title(row['defense'], row['drop_max'])} on fold {row['fold']} with seed {row['seed']}"


def constant_f1(rows: pd.DataFrame, answer: str, classes: Sequence[str], positive: str) -> float:
    """F1 of a model that gives one answer to all images of the rows, clean and under any attack."""
    label = rows.drop_duplicates(["source", "image"])["label"]
    return classification_metrics(label, [answer] * len(label), [0.0] * len(label), classes, positive)["f1"]


def pixels(eps: float) -> str:
    """`5/255` where eps is a whole number of gray levels."""
    levels = eps * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.4g}"
