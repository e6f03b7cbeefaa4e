"""Answers on the evaluation: metrics, their uncertainty, robustness, external data and limitations."""

import pandas as pd

from mirst.evaluation import CLEAN
from mirst.metrics import class_metrics, metric_named, study_metrics
from mirst.report.checklists.data_answers import OUTCOMES, REPORT, STUDY, SUMMARY
from mirst.report.checklists.items import Answer, Evidence, per_model, table
from mirst.report.context import PROTOCOL, attack_name, listed, of_defense, pixels
from mirst.report.differences import NOT_SIGNIFICANT
from mirst.report.headline import proof_sentence
from mirst.report.html import WARNING
from mirst.report.study_notes import notes
from mirst.report.tables import corruption_grid
from mirst.report.verdict import reliability
from mirst.study.layout import SUITES
from mirst.study.summary import pooled_interval

INTERVAL = "pooled over folds and seeds, with its 95 % interval over groups"


def metrics(study: Evidence) -> Answer:
    results = study.results
    titles = [metric.title for metric in study_metrics(results.positive).values()]
    of = f"of {results.positive}" if len(results.classes) == 2 else "as macro averages over the classes"
    return Answer(f"{'; '.join(titles)}: {of}, without and under attack.", [SUMMARY])


def uncertainty(study: Evidence) -> Answer:
    pairs = study.numbers("differences")
    significant = int((pairs["reading"] != NOT_SIGNIFICANT).sum())
    compared = (
        f" {len(pairs)} differences between two models on the same images are tested, with Holm's correction of the p "
        f"values; {significant} are significant at 0.05."
    )
    return Answer(
        "95 % intervals of Clopper and Pearson with an effective number of images, which keep groups whole."
        f"{compared if len(pairs) else ''}",
        [table("intervals"), table("differences")],
    )


def performance(study: Evidence) -> Answer | None:
    parts = _f1(study)
    return Answer(f"F1 score, {INTERVAL}. {' '.join(parts)}", [table("intervals")]) if parts else None


def _f1(study: Evidence) -> list[str]:
    """F1 of the networks without an attack and under the strongest; empty if no defense has all of its trainings."""
    rows = study.networks("intervals")
    f1 = rows[rows["metric"] == "f1"]
    attacks = [CLEAN, str(f1["attack"].iloc[-1])] if len(f1) else []
    return [f"{_under(study, attack)}: {per_model(f1[f1['attack'] == attack])}." for attack in attacks]


def _under(study: Evidence, attack: str) -> str:
    if attack == CLEAN:
        return "Without an attack"
    strongest = "the worst of the study's own attacks" if attack == PROTOCOL else f"the suite {attack}"
    return f"Under {strongest} (eps {pixels(study.context.under_attack[attack]['eps'].max())})"


def diagnostic(study: Evidence) -> Answer | None:
    """The other metrics without an attack."""
    results = study.results
    whole = [entry for entry in results.spec.defenses if results.is_whole(entry)]
    if not whole:
        return None
    parts = []
    for metric in class_metrics(results.positive)[1:]:
        found = [
            pooled_interval(of_defense(study.clean, entry), results.classes, results.positive, metric)
            for entry in whole
        ]
        rows = [(entry.title, one.value, one.low, one.high) for entry, one in zip(whole, found, strict=True)]
        models = per_model(pd.DataFrame(rows, columns=["defense", "value", "low", "high"]))
        parts.append(f"{metric_named(metric).title}: {models}.")
    return Answer(f"Without an attack, each {INTERVAL}. {' '.join(parts)}", [OUTCOMES])


def robustness(study: Evidence) -> Answer:
    results = study.results
    files = results.files
    names = [f"{entry.label} (eps {pixels(entry.attack.eps)})" for entry in results.spec.attacks]
    suites = [f"the suite {suite}" for suite in results.suites]
    sentences = [f"Every test image is attacked within an L-infinity ball by {listed([*names, *suites])}."]
    sentences += [f"F1 score, {INTERVAL}: {under[0].lower()}{under[1:]}" for under in _f1(study)[1:]]
    proofs = [OUTCOMES, table("intervals")]
    proofs += [study.place(path(s)) for s in SUITES for path in (files.table, files.checks) if path(s).exists()]
    sentences.append(reliability(results))
    grid = corruption_grid(results, "f1", files)
    if grid is not None:
        sentences.append(
            f"The models are also tested under {grid.index.unique('corruption').size} natural corruptions."
        )
        proofs.append(study.place(files.corruptions))
    if results.certificates is not None:
        sentences += proof_sentence(results)
        proofs.append(study.place(files.certificates))
    return Answer(" ".join(sentences), proofs)


def external(study: Evidence) -> Answer | None:
    others = [one for one in study.externals if not one.is_held_out]
    sentences, files = [], []
    for one in others:
        name = table(f"external-{one.name}")
        rows = study.networks(f"external-{one.name}")
        f1 = rows[(rows["metric"] == "f1") & (rows["attack"] == attack_name(CLEAN))]
        figures = [f"{what} {per_model(f1[f1['figure'] == what])}" for what in ("external", "change")]
        sentences.append(
            f"On {one.record['images']} images ({one.record['groups']} groups) of {one.name}, F1 score without an "
            f"attack, with its 95 % interval: {'; '.join(figures)}."
        )
        files += [name, study.place(one.folder.record)]
    return Answer(" ".join(sentences), files) if others else None


def failures(study: Evidence) -> Answer:
    wrong = study.clean["label"] != study.clean["prediction"]
    by_image = wrong.groupby([study.clean["source"], study.clean["image"]])
    always, ever = int(by_image.all().sum()), int(by_image.any().sum())
    return Answer(
        f"Without an attack, {ever} of {len(by_image)} test images are misclassified by some model that is tested on "
        f"them, and {always} by all of them; the rows name each image, its class and its prediction.",
        [OUTCOMES, REPORT],
    )


def limitations(study: Evidence) -> Answer | None:
    """What the report warns of; `None` if it warns of nothing."""
    warnings = [] if study.results.checks else [reliability(study.results)]
    warnings += [note for note in notes(study.results) if WARNING.match(note)]
    return Answer(" ".join(warnings), [REPORT]) if warnings else None


def settings(study: Evidence) -> Answer:
    return Answer(
        "The file has every setting of the study, defaults included; mirst run repeats the study with it.", [STUDY]
    )
