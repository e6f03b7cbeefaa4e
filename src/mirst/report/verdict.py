"""What a study found, in three sentences."""

from collections.abc import Mapping

import pandas as pd

from mirst.report.differences import under_attack
from mirst.report.tables import CLEAN, constant_f1, pixels, weights_of
from mirst.study import Results

Intervals = Mapping[str, pd.DataFrame]
"""By the metric's name, as from `mirst.report.differences.intervals`."""


def verdict(results: Results, whole: Intervals) -> list[str]:
    """What was trained on what; what it is worth, clean and at worst; whether that can be believed."""
    return [_trained(results), _found(results, whole), _believed(results)]


def best_under_attack(f1: pd.DataFrame) -> str:
    """The defense of the highest F1 under the strongest attacks that were run, the last row."""
    return max(f1.columns, key=lambda column: f1[column].iloc[-1].value)


def _trained(results: Results) -> str:
    spec, data = results.spec, results.run["data"]
    classes = ", ".join(f"{count} {name}" for name, count in data["per_class"].items())
    return (
        f"On {data['images']} images ({classes}; {data['groups']} groups of look-alikes or patients), "
        f"{spec.model.name} from {weights_of(results)} was trained at {spec.data.size} px by "
        f"{_listed([entry.title for entry in spec.defenses])}, each on {spec.folds.count} {spec.folds.kind} folds "
        f"with {_counted(len(spec.seeds), 'seed')}."
    )


def _found(results: Results, whole: Intervals) -> str:
    f1 = whole["f1"]
    worst = str(f1.index[-1])
    eps = pixels(under_attack(results)[worst]["eps"].max())
    best = best_under_attack(f1)
    parts = [
        f"{best}, the best under attack, goes from {_values(whole, best, CLEAN)} without attack to "
        f"{_values(whole, best, worst)} under the strongest attacks run ({worst}, eps {eps})"
    ]
    plain = next((entry.title for entry in results.spec.defenses if entry.name == "ce" and entry.title != best), None)
    if plain is not None and plain in f1:
        parts.append(f"plain training ({plain}) from {_values(whole, plain, CLEAN)} to {_values(whole, plain, worst)}")
    if len(results.classes) == 2:
        parts.append(
            f"answering {results.positive} to everything would give F1 "
            f"{constant_f1(results.outcomes, results.positive, results.classes, results.positive):.3f} under any attack"
        )
    return "; ".join(parts) + "."


def _values(whole: Intervals, defense: str, attack: str) -> str:
    f1, sensitivity = (str(whole[metric].at[attack, defense]) for metric in ("f1", "sensitivity"))
    return f"F1 {f1} and sensitivity {sensitivity}"


def _believed(results: Results) -> str:
    if not results.checks:
        return (
            "Only the study's own attacks were run and no check for gradient masking, so the numbers under attack are "
            f"upper bounds: mirst evaluate {results.folder} --suite standard runs strong attacks and the checks."
        )
    suite, checks = list(results.checks.items())[-1]
    odd = checks[checks["verdict"] != "pass"]
    if len(odd):
        return (
            f"{len(odd)} of {len(checks)} checks for gradient masking under {suite} were not passed "
            f"({_listed(sorted(set(odd['name'])))}): the numbers under attack may be too good."
        )
    return (
        f"All {checks['name'].nunique()} checks for gradient masking were passed under {suite} by the models of fold "
        "0, so nothing speaks against the numbers under attack."
    )


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
