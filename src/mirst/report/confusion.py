"""What is taken for what: counts of every class and answer, pooled over the folds."""

from dataclasses import dataclass

import pandas as pd

from mirst.attacks import PGD
from mirst.report.differences import under_attack
from mirst.report.tables import CLEAN, of_defense, pixels
from mirst.study import Results


@dataclass(frozen=True)
class Cell:
    count: int
    share: float
    """Of the images of the true class."""
    right: bool


@dataclass(frozen=True)
class Confusion:
    """Of one defense."""

    title: str
    answers: tuple[str, ...]
    blocks: dict[str, dict[str, list[Cell]]]
    """By attack, then by true class: a cell for each answer."""


def confusions(results: Results) -> list[Confusion]:
    """Of every defense that did not diverge: without an attack, under PGD, and under the strongest suite present."""
    conditions = attack_conditions(results)
    found = []
    for entry in results.spec.defenses:
        blocks = {name: of_defense(rows, entry) for name, rows in conditions.items()}
        if all(len(rows) for rows in blocks.values()):
            tables = {name: _block(rows, results.classes) for name, rows in blocks.items()}
            found.append(Confusion(entry.title, results.classes, tables))
    return found


def attack_conditions(results: Results) -> dict[str, pd.DataFrame]:
    """Outcome rows by the heading of their attack: none, the study's PGD where it has one, the strongest suite."""
    rows = under_attack(results)
    name, strongest = list(rows.items())[-1]
    conditions = {"no attack": rows[CLEAN]}
    for entry in results.spec.attacks:
        if isinstance(entry.attack, PGD):
            own = results.outcomes[results.outcomes["attack"] == entry.label]
            conditions[f"{entry.label} (eps {pixels(entry.attack.eps)})"] = own
            break
    conditions[f"{name} (eps {pixels(strongest['eps'].max())})"] = strongest
    return conditions


def _block(rows: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, list[Cell]]:
    counts = pd.crosstab(rows["label"], rows["prediction"]).reindex(index=classes, columns=classes, fill_value=0)
    return {
        label: [
            Cell(int(count), count / max(1, row.sum()), answer == label)
            for answer, count in zip(classes, row, strict=True)
        ]
        for label, row in zip(classes, counts.to_numpy(), strict=True)
    }
