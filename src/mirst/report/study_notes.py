"""Sentences that a reader needs to interpret the numbers of a study."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mirst.data import SPLIT_LEAK
from mirst.evaluation import CLEAN, weak_budget
from mirst.metrics import classification_metrics, metric_named
from mirst.nn.checkpoint import view_in_words
from mirst.report.context import every_row, pixels, title
from mirst.study import Results
from mirst.study.summary import TRIAL


def notes(results: Results) -> list[str]:
    """Sentences on the data, the folds and everything that makes the numbers unreliable."""
    spec, data = results.spec, results.run["data"]
    images = ", ".join(f"{count} {name}" for name, count in data["per_class"].items())
    binary = len(results.classes) == 2
    models = results.origin or f"{len(spec.seeds)} seed(s)"
    what = (
        f"positive class: {results.positive}"
        if binary
        else "macro averages over the classes"
        + (f"; AUC of {results.positive} against the others" if results.positive is not None else "")
    )
    return [
        *_masking(results),
        f"Mean ± standard deviation over {spec.folds.in_words}, {models}; "
        f"{what}. {images}; {data['groups']} groups; {spec.model.network} with {weights_of(results)} at "
        f"{spec.data.size} px.",
        *_view(results),
        *([decision_rule(results)] if binary and spec.training.threshold != "argmax" else []),
        *_undefined(results),
        *(_trivial(results) if binary else []),
        *_baselines(results),
        *_conflicts(results),
        *_leak(results),
        *_short_attacks(results),
        *_diverged(results),
        *_unscored(results),
        *(
            f"COLLAPSED: {sentence}"
            for sentence in constant_predictions(every_row(results), results.classes, results.positive)
        ),
    ]


def _view(results: Results) -> list[str]:
    """What the models see, unless it is the whole image as in the paper."""
    data, model = results.spec.data, results.spec.model
    if data.view == "whole":
        return []
    box = "They also get the aspect and the area of the box as an input." if model.box == "fused" else ""
    seen = f"Lesion view: the models see {view_in_words(data.view, data.margin)}."
    return [" ".join([seen, "This is another task than that of the paper.", box]).strip()]


def decision_rule(results: Results) -> str:
    """Above which log-odds the models of a study of two classes predict the positive class, in a sentence."""
    rule, positive = results.spec.training.operating_point, results.positive
    setting = f"(training.threshold: {rule})"
    if results.origin is not None:
        mean = "the mean over its members of their log-odds minus their own threshold"
        return f"Every ensemble predicts {positive} above log-odds of 0, {mean} {setting}."
    if rule.rule == "argmax":
        return (
            f"Every model predicts the class with the larger logit {setting}. It predicts {positive} if the "
            f"probability of {positive} exceeds 0.5."
        )
    return f"Every model predicts {positive} above {rule.described()} {setting}."


def _masking(results: Results) -> list[str]:
    """Whether the models passed the checks for gradient masking, for each suite."""
    sentences = []
    for suite, checks in results.checks.items():
        not_passed = checks[checks["verdict"] != "pass"]
        failures = [
            f"{title(row['defense'], row['drop_max'])} {row['verdict']} ({row['name']}: {row['figures']})"
            for row in not_passed.to_dict("records")
        ]
        sentences.append(
            f"MASKING: {'; '.join(failures)}; the numbers under {suite} may be too high (docs/masking.md)."
            if failures
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
        f"WITHOUT A SCORE: {len(missing)} of {len(rows)} rows ({', '.join(sorted(defenses))}). They are left out "
        "of calibration and operating threshold; AUC counts them as ranked wrongly."
    ]


def weights_of(results: Results) -> str:
    """The weights that the trainings started from."""
    loaded = results.run.get("weights")
    if loaded is None:
        return "random weights"
    return f"the weights {loaded['source']} ({loaded['matched']} of {loaded['of']} tensors, {loaded['sha256'][:8]})"


def _trivial(results: Results) -> list[str]:
    return [
        f"A model that predicts {results.positive} for every image has F1 "
        f"{constant_f1(results.outcomes, results.scored, results.classes, results.positive):.3f} and "
        "sensitivity 1.000, clean and under any attack: see also specificity and AUC."
    ]


def _baselines(results: Results) -> list[str]:
    if results.baselines is None:
        return []
    sentence = "The columns marked (baseline) are no networks, and their numbers under attack are exact"
    if len(results.classes) > 2:
        return [f"{sentence}: constant predicts {results.scored} for every image."]
    return [
        f"{sentence}, the worst case of every image within eps: constant predicts {results.positive} for every image; "
        "the others are logistic regressions on the aspect and relative area of the lesion's box (box), which no "
        "attack on pixels changes, and on 8 x 8 block means of the image (thumbnail); those with +at are trained "
        "against the study's own eps. A network that is not better than they are is not worth its training."
    ]


def _undefined(results: Results) -> list[str]:
    """The metrics that are undefined on the clean test images of some folds."""
    count = results.spec.folds.count
    clean = results.summary[results.summary["attack"] == CLEAN].drop_duplicates("metric")
    names: dict[int, list[str]] = {}
    for metric, folds in clean[clean["folds"] < count][["metric", "folds"]].itertuples(index=False):
        names.setdefault(folds, []).append(metric_named(metric).title)
    return [
        f"UNDEFINED: {', '.join(metrics)}: defined in {folds} of {count} folds; the other folds have no test images of "
        "a class that the metric needs."
        for folds, metrics in sorted(names.items())
    ]


def _conflicts(results: Results) -> list[str]:
    data, groups = results.spec.data, results.run["data"]["conflicts"]
    sentences = []
    if data.relabel:
        sentences.append(f"{len(data.relabel)} image(s) were relabelled by data.relabel.")
    if groups:
        count = sum(len(group) for group in groups)
        fate = "left out (data.conflicts: drop)" if data.conflicts == "drop" else "kept (data.conflicts: keep)"
        sentences.append(
            f"LABEL CONFLICTS: {count} images in {len(groups)} groups of copies have more than one class; "
            f"they were {fate}."
        )
    return sentences


def _leak(results: Results) -> list[str]:
    data = results.run["data"]
    if results.spec.folds.kind == "given":
        return [sentence for sentence in data["audit"] if sentence.startswith(SPLIT_LEAK)]
    if results.spec.folds.kind == "group":
        return []
    if data["groups"] == data["images"]:
        return []
    return [
        f"RANDOM FOLDS LEAK: images were assigned to folds individually, although {data['images']} images form "
        f"{data['groups']} groups of copies or patients; some groups have images in training and test, which "
        "makes every number here too high."
    ]


def _short_attacks(results: Results) -> list[str]:
    return [sentence for entry in results.spec.attacks if (sentence := weak_budget(entry.label, entry.attack))]


def _diverged(results: Results) -> list[str]:
    return [
        f"{'DIVERGED' if 'diverged' in row['reason'] else 'KILLED'}: "
        f"{title(row['defense'], row['drop_max'])} on fold {row['fold']} with seed {row['seed']} "
        f"({row['reason']}); its column shows '-', since the mean of the other trials would be too favourable."
        for row in results.failed.to_dict("records")
    ]


def constant_predictions(rows: pd.DataFrame, classes: Sequence[str], positive: str | None) -> list[str]:
    """A sentence for each model and class that the model predicts for all images, clean or under an attack.

    Args:
        rows: outcome rows, with the columns of the trials if they come from a study.
    """
    attacks: dict[tuple[str, str], list[str]] = {}
    f1: dict[tuple[str, str], float] = {}
    for _, own in rows.groupby([*(column for column in TRIAL if column in rows), "attack", "eps"], sort=False):
        first = own.iloc[0]
        if own["prediction"].nunique(dropna=False) == 1:
            model, predicted = _title_of_trial(first), str(first["prediction"])
            name = "no attack" if first["attack"] == CLEAN else f"{first['attack']} at eps {pixels(first['eps'])}"
            attacks.setdefault((model, predicted), []).append(name)
            f1[model, predicted] = constant_f1(own, predicted, classes, positive)
    return [
        f"{model} predicts {predicted} for every test image under {', '.join(names)}. These numbers are no evidence of "
        f"robustness. A model that always predicts {predicted} has F1 {f1[model, predicted]:.3f} on these images."
        for (model, predicted), names in attacks.items()
    ]


def _title_of_trial(row: "pd.Series[Any]") -> str:
    if "fold" not in row:
        return "the model"
    return f"{title(row['defense'], row['drop_max'])} on fold {row['fold']} with seed {row['seed']}"


def constant_f1(rows: pd.DataFrame, predicted: str, classes: Sequence[str], positive: str | None) -> float:
    """F1 of a model that predicts one class for all images of the rows, clean and under any attack."""
    label = rows.drop_duplicates(["source", "image"])["label"]
    return classification_metrics(label, [predicted] * len(label), [0.0] * len(label), classes, positive)["f1"]
