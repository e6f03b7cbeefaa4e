"""The verdict of a report: by rule, in sentences that need no knowledge of the field."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mirst.report.certified_gaps import between
from mirst.report.context import attack_name, listed, pixels
from mirst.report.differences import NOT_SIGNIFICANT
from mirst.report.external import Validation
from mirst.report.study_notes import constant_f1
from mirst.study import Results

MOST_NAMES = 8
"""Of the models that a sentence names; the tables name all."""


@dataclass(frozen=True)
class Evidence:
    """What the verdict is read from.

    >>> from mirst.evaluation import Interval
    >>> f1 = pd.DataFrame({"ce": [Interval(0.8, 0.7, 0.9), Interval(0.3, 0.2, 0.4)]}, index=["none", "standard"])
    >>> judged = pd.DataFrame(columns=["attack", "first", "second", "reading"])
    >>> headline(Evidence(f1, judged, constant=0.5, plain="ce", doubtful=()))[0]
    'The model ce does not keep its answers under attack; do not rely on it.'
    """

    f1: pd.DataFrame
    """As from `mirst.report.differences.intervals`; the last row is the strongest attack that was run."""
    judged: pd.DataFrame
    """As from `mirst.report.differences.differences`."""
    constant: float
    """The highest F1 of one fixed answer for every image, the same under any attack."""
    plain: str | None
    """The title of training without a defense."""
    doubtful: Sequence[str] | None
    """The defenses of which a check for gradient masking did not pass; `None` if no checks were run."""
    failed: Sequence[str] = ()
    """The defenses of which a trial diverged or was stopped."""


def evidence(results: Results, f1: pd.DataFrame, judged: pd.DataFrame) -> Evidence:
    """Of a study and its tables."""
    entries = results.spec.defenses
    plain = [entry.title for entry in sorted(entries, key=lambda entry: entry.drop_max) if entry.name == "ce"]
    checks = next(reversed(results.checks.values()), None)
    doubtful = None
    if checks is not None:
        failed = checks[checks["verdict"] != "pass"]
        named = set(zip(failed["defense"], failed["drop_max"], strict=True))
        doubtful = tuple(entry.title for entry in entries if (entry.label, entry.drop_max) in named)
    return Evidence(
        f1,
        judged,
        constant=constant_answer(results)[1],
        plain=next(iter(plain), None),
        doubtful=doubtful,
        failed=tuple(entry.title for entry in entries if not results.is_whole(entry)),
    )


def constant_answer(results: Results) -> tuple[str, float]:
    """The class that is the best fixed answer for every image, and its F1."""
    rows, classes, positive = results.outcomes, results.classes, results.positive
    f1 = {name: constant_f1(rows, name, classes, positive) for name in classes}
    best = max(f1, key=lambda name: f1[name])
    return best, f1[best]


def headline(given: Evidence) -> list[str]:
    """Whether any model withstands the attacks; which do; whether the attacks were strong enough to say so.

    A model keeps its answers if the interval of its F1 under the strongest attack lies above the F1 of one fixed
    answer. Models are ranked only by differences that are significant.
    """
    ended = [_without_result(given.failed)] if given.failed else []
    names = list(map(str, given.f1.columns))
    if not names:
        return ["No model here can be judged: no defense has all of its trainings.", *ended]
    keeps = [name for name in names if given.f1[name].iloc[-1].low > given.constant]
    if not keeps:
        return [*_none_keeps(given, names), *ended]
    return [*_who_keeps(given, names, keeps), *_strength(given, keeps), *ended]


def leading(f1: pd.DataFrame, judged: pd.DataFrame) -> list[str]:
    """The defense of the highest F1 in the last row, and those whose F1 is not significantly lower."""
    best = highest_under_attack(f1)
    return [str(name) for name in f1.columns if name == best or not _differ(judged, f1.index[-1], best, str(name))]


def highest_under_attack(f1: pd.DataFrame) -> str:
    """The defense of the highest F1 in the last row; others may not be significantly lower."""
    return str(f1.iloc[-1].map(lambda one: one.value).fillna(-1.0).idxmax())


def _differ(judged: pd.DataFrame, attack: object, one: str, other: str) -> bool:
    pair = judged["first"].isin([one, other]) & judged["second"].isin([one, other])
    return bool((judged.loc[pair & (judged["attack"] == attack), "reading"] != NOT_SIGNIFICANT).any())


def _none_keeps(given: Evidence, names: list[str]) -> list[str]:
    better = "to do better than one fixed answer for every image"
    works = any(given.f1[name].iloc[0].low > given.constant for name in names)
    if len(names) == 1:
        name = names[0]
        if not works:
            return [f"The model {name} is not shown {better}, even without an attack; do not rely on it."]
        return [
            f"The model {name} does not keep its answers under attack; do not rely on it.",
            f"Under attack, it is not shown {better}.",
        ]
    if not works:
        return [f"No model here is shown {better}, even without an attack; do not rely on any of them."]
    less = _above_plain(given, names)
    verb = "loses" if len(less) == 1 else "lose"
    less_bad = [f"{_start(less, names)} {verb} less than plain training ({given.plain})."] if less else []
    return [
        "No model here keeps its answers under attack; do not rely on any of them.",
        f"Under attack, none is shown {better}.",
        *less_bad,
    ]


def _above_plain(given: Evidence, names: list[str]) -> list[str]:
    """The models of a significantly higher F1 under attack than plain training."""
    if given.plain not in names:
        return []
    plain, under = str(given.plain), {name: given.f1[name].iloc[-1].value for name in names}
    attack = given.f1.index[-1]
    return [name for name in names if under[name] > under[plain] and _differ(given.judged, attack, plain, name)]


def _who_keeps(given: Evidence, names: list[str], keeps: list[str]) -> list[str]:
    if len(names) == 1:
        return [f"The model {names[0]} does better under attack than one fixed answer for every image."]
    first, better, plain = leading(given.f1, given.judged), _above_plain(given, names), given.plain
    unknown = "the study cannot tell which of them is best"
    sentences = []
    if better:
        verb = "withstands" if len(better) == 1 else "withstand"
        end = f"; {unknown}." if better == first and len(first) > 1 else "."
        sentences.append(f"{_start(better, names)} {verb} attacks better than plain training ({plain}){end}")
    elif plain in names:
        sentences.append(f"No model here is shown to withstand attacks better than plain training ({plain}).")
    if len(first) == 1 and len(names) > 2:
        sentences.append(f"The model {first[0]} has a higher F1 under attack than every other model here.")
    elif len(first) > 1 and better != first:
        sentences.append(f"{_start(first, names)} have the highest F1 under attack; {unknown}.")
    return [*sentences, _beside_fixed(names, keeps)]


def _beside_fixed(names: list[str], keeps: list[str]) -> str:
    better = "shown to do better under attack than one fixed answer for every image"
    if keeps == names:
        return f"All {len(names)} models are {better}."
    lost = [name for name in names if name not in keeps]
    others = f"the model {lost[0]}" if len(lost) == 1 else "any other model here"
    return f"Only {_some(keeps, names)} {'is' if len(keeps) == 1 else 'are'} {better}; do not rely on {others}."


def _strength(given: Evidence, keeps: list[str]) -> list[str]:
    if given.doubtful is None:
        return ["Only weak attacks were run, so stronger attacks may still change this."]
    doubtful = [name for name in keeps if name in given.doubtful]
    if not doubtful:
        return []
    its = "its" if len(doubtful) == 1 else "their"
    return [
        f"Do not rely on this for {listed(doubtful)}: checks of the attacks did not pass, so {its} numbers may be too "
        "high."
    ]


def _without_result(failed: Sequence[str]) -> str:
    return f"{listed(failed)} {'has' if len(failed) == 1 else 'have'} no result: a training diverged or was stopped."


def proof_sentence(results: Results) -> list[str]:
    """For which share of the images the prediction is proved; nothing without certificates."""
    if results.certificates is None:
        return []
    counts = between(results)
    own = max(entry.attack.eps for entry in results.spec.attacks)
    eps = own if (counts["eps"] == own).any() else counts["eps"].min()
    at = counts[counts["eps"] == eps]
    shares = dict(zip(at["defense"], 100 * at["certified"] / at["images"], strict=True))
    change = f"no change of up to {pixels(eps)} per pixel makes the model wrong"
    proved = [f"{share:.0f} % for {name}" for name, share in shares.items() if share]
    if not proved:
        return [f"For no image it is proved that {change}."]
    if len(proved) > MOST_NAMES:
        proved = [f"up to {max(shares.values()):.0f} %, depending on the model"]
    return [f"It is proved for a share of the images that {change}: {listed(proved)}."]


def elsewhere_sentence(one: Validation) -> list[str]:
    """How F1 changes on images that no model was trained on."""
    numbers = one.changes.numbers
    if numbers.empty:
        return []
    change = numbers[(numbers["metric"] == "f1") & (numbers["figure"] == "change")]
    clean = change[change["attack"] == attack_name("none")]
    lower, higher = int((clean["high"] < 0).sum()), int((clean["low"] > 0).sum())
    parts = [f"lower for {lower}"] if lower else []
    parts += [f"higher for {higher}"] if higher else []
    rest = len(clean) - lower - higher
    parts += [f"not shown to differ for {rest}"] if rest else []
    return [
        f"On the data set {one.name}, which no model was trained on, F1 without an attack is {listed(parts)} of "
        f"{len(clean)} models."
    ]


def _start(chosen: Sequence[str], names: Sequence[str]) -> str:
    """As `_some`, at the start of a sentence."""
    text = _some(chosen, names)
    return text[0].upper() + text[1:]


def _some(chosen: Sequence[str], names: Sequence[str]) -> str:
    """As a list, or how many if they are too many to name."""
    if len(chosen) <= MOST_NAMES:
        return f"the {'model' if len(chosen) == 1 else 'models'} {listed(chosen)}"
    return f"all {len(names)} models" if len(chosen) == len(names) else f"{len(chosen)} of the {len(names)} models"
