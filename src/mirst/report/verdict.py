"""The first section of a report: the verdict, the numbers that it is read from, and whether they are reliable."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mirst.evaluation import CLEAN, Difference
from mirst.report.baselines import baseline_title, baseline_titles, baselines_at, for_every_seed
from mirst.report.certified_gaps import between
from mirst.report.context import PROTOCOL, ReportContext, listed, of_defense, pixels
from mirst.report.differences import NOT_SIGNIFICANT
from mirst.report.external import Validation
from mirst.report.headline import (
    constant_answer,
    elsewhere_sentence,
    evidence,
    headline,
    highest_under_attack,
    proof_sentence,
)
from mirst.study import Results
from mirst.study.summary import pooled_difference, pooled_interval

MASKING = "gradient masking (a model that hides from an attack instead of withstanding it)"


@dataclass(frozen=True)
class Verdict:
    """The section.

    >>> Verdict(["No model here can be judged."], [], pd.DataFrame(), {}).sentences
    []
    """

    headline: list[str]
    """In plain words; the first sentence is the most important."""
    sentences: list[str]
    """Below the numbers: the box alone in a study of lesions, and whether the numbers are reliable."""
    numbers: pd.DataFrame
    """For readers: a row per model, and one for the same answer for every image."""
    terms: dict[str, str]
    """What the words mean that the section uses."""


def verdict(
    context: ReportContext, f1: pd.DataFrame, judged: pd.DataFrame, elsewhere: Sequence[Validation] = ()
) -> Verdict:
    """The verdict of a study.

    Args:
        f1: as from `mirst.report.differences.intervals`.
        judged: as from `mirst.report.differences.differences`.
        elsewhere: its validations on other images.
    """
    results = context.results
    given = evidence(results, f1, judged)
    first = [*headline(given), *proof_sentence(results)]
    first += [sentence for one in elsewhere for sentence in elsewhere_sentence(one)]
    has_box = baseline_title("box") in baseline_titles(results) and len(f1.columns) > 0
    box = [beside_the_box(context, f1)] if has_box else []
    numbers = _numbers(context, f1, judged, given.plain)
    return Verdict(first, [*box, reliability(results)], numbers, _terms(context))


def _numbers(context: ReportContext, f1: pd.DataFrame, judged: pd.DataFrame, plain: str | None) -> pd.DataFrame:
    results = context.results
    worst = f1.index[-1]
    proved = _proved(results)
    answer, constant = constant_answer(results)
    fixed = {"model": f"fixed answer: {answer} for every image", "no attack": f"{constant:.3f}"}
    lines = []
    for name in map(str, f1.columns):
        line = {"model": name, "no attack": str(f1[name].iloc[0]), "strongest attack": str(f1[name].iloc[-1])}
        if plain in f1.columns and len(f1.columns) > 1:
            line[f"difference from {plain} under attack"] = _against(judged, worst, str(plain), name)
        if proved:
            line |= proved.get(name, {})
        lines.append(line)
    return pd.DataFrame([*lines, fixed | {"strongest attack": fixed["no attack"]}]).fillna("-")


def _against(judged: pd.DataFrame, attack: object, plain: str, name: str) -> str:
    pair = judged["first"].isin([plain, name]) & judged["second"].isin([plain, name]) & (judged["attack"] == attack)
    if name == plain or not pair.any():
        return "-"
    row = judged[pair].iloc[0]
    value = row["value"] if row["first"] == plain else -row["value"]
    return f"{value:+.3f} {NOT_SIGNIFICANT if row['reading'] == NOT_SIGNIFICANT else 'significant'}"


def _proved(results: Results) -> dict[str, dict[str, str]]:
    """By defense: the share of the images that are certified, by heading."""
    if results.certificates is None:
        return {}
    found: dict[str, dict[str, str]] = {}
    for row in between(results).to_dict("records"):
        share = f"{100 * row['certified'] / row['images']:.0f}\u00a0%"
        found.setdefault(row["defense"], {})[f"proved at eps {pixels(row['eps'])}"] = share
    return found


def _terms(context: ReportContext) -> dict[str, str]:
    results = context.results
    worst, rows = list(context.under_attack.items())[-1]
    eps = pixels(rows["eps"].max())
    suite = (
        "the worst of the study's own attacks (the paper protocol)"
        if worst == PROTOCOL
        else f"the worst of several strong attacks (the suite {worst})"
    )
    f1 = (
        f"the harmonic mean of sensitivity and positive predictive value (precision) for {results.positive}"
        if len(results.classes) == 2
        else "for each class the harmonic mean of sensitivity and precision, then the mean over the classes"
    )
    terms = {
        "Model": "each name is a way of training: ce is plain training, the others are defenses against attacks; "
        "+dm adds a drop-max layer.",
        "F1 score": f"{f1}; 1 is best, 0 worst. In brackets: its 95 % interval over groups, "
        "which are the copies of one image or the images of one patient.",
        "Attack": "a change of the image, too small to see or nearly so, that is computed to make the model wrong.",
        f"eps {eps}": "the largest change of a pixel that the attack may make; black is 0 and white is 1.",
        "Strongest attack": f"for each image, {suite}.",
        "Fixed answer": "the same class for every image. It needs no model, and no attack changes it.",
        "Cannot be told apart": "the difference may be chance (p of 0.05 or more after Holm's correction for all "
        "pairs).",
    }
    if results.certificates is not None:
        terms["Proved"] = (
            "a certificate: a calculation shows that no attack within eps can make the model wrong on the image."
        )
    return terms


def beside_the_box(context: ReportContext, f1: pd.DataFrame) -> str:
    """The paired differences of F1 between one network and the box alone, which is the same under any attack.

    The network is that of the highest F1 under the strongest attacks.
    """
    results, best = context.results, highest_under_attack(f1)
    seeds = " over the models of all seeds" if results.origin is None and len(results.spec.seeds) > 1 else ""
    entry = next(entry for entry in results.spec.defenses if entry.title == best)
    clean = baselines_at(results, 0.0)
    box = clean[clean["defense"] == baseline_title("box")]
    readings = []
    for attack in (CLEAN, str(f1.index[-1])):
        network = of_defense(context.under_attack[attack], entry)
        gain = pooled_difference(for_every_seed(box, results), network, results.classes, results.positive)
        readings.append(f"{_reading(gain)} (difference of F1{seeds} {gain})")
    return (
        f"The box alone, without a network, has F1 {pooled_interval(box, results.classes, results.positive)} without "
        f"attack and under any attack on pixels; {best}, the network of the highest F1 under attack, {readings[0]} "
        f"without attack and {readings[1]} under the strongest attacks that were run."
    )


def _reading(gain: Difference) -> str:
    if gain.low > 0:
        return "adds to the box"
    return "is below the box" if gain.high < 0 else "cannot be told apart from the box"


def reliability(results: Results) -> str:
    """Whether the numbers under attack are reliable."""
    if not results.checks:
        return (
            f"Only the study's own attacks were run, without checks for {MASKING}, so the numbers under attack are "
            "upper bounds."
        )
    suite, checks = list(results.checks.items())[-1]
    not_passed = checks[checks["verdict"] != "pass"]
    if len(not_passed):
        return (
            f"{len(not_passed)} of {len(checks)} checks for {MASKING} under {suite} did not pass "
            f"({listed(sorted(set(not_passed['name'])))}): the numbers under attack may be too high."
        )
    return (
        f"The models of fold 0 passed all {checks['name'].nunique()} checks for {MASKING} under {suite}, so there is "
        "no sign that the numbers under attack are too high."
    )
