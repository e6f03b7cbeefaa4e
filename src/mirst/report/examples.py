"""Clean and attacked test images of each defense, with the model's predictions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mirst.files import harmless
from mirst.report.context import of_defense
from mirst.report.pictures import perturbation_uri, picture_uri
from mirst.study import Results
from mirst.study.named_configs import NamedDefense
from mirst.study.trial import Trial

SHOWN = 4
"""Number of images of each defense."""


@dataclass(frozen=True)
class Prediction:
    """What the model predicts for an image, clean or attacked; `picture` is a data URI.

    >>> Prediction("malignant", score=0.5, correct=True, picture="data:").correct
    True
    """

    label: str
    score: float
    """The log-odds of the positive class."""
    correct: bool
    picture: str


@dataclass(frozen=True)
class Attacked:
    """An image under one attack.

    >>> Attacked("pgd", Prediction("benign", -0.5, False, "data:"), perturbation="data:", factor=25).factor
    25
    """

    attack: str
    prediction: Prediction
    perturbation: str
    """A data URI."""
    factor: int
    """By how much the perturbation is magnified; 0 for an attack of eps 0."""


@dataclass(frozen=True)
class Example:
    """A test image, clean and under every attack of the study.

    >>> Example("a.png", "benign", Prediction("benign", -1.0, True, "data:"), []).image
    'a.png'
    """

    image: str
    label: str
    clean: Prediction
    attacked: list[Attacked]


def examples_of(results: Results, entry: NamedDefense) -> list[Example]:
    """Of the first fold and seed; none if the study kept no examples of the defense."""
    trial = Trial(entry, 0, results.spec.seeds[0])
    path = results.files.trial(trial.name).examples
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as file:
        images, attacks, clean, attacked = (file[key] for key in ("images", "attacks", "clean", "attacked"))
    rows = of_defense(results.outcomes, entry)
    rows = rows[(rows["fold"] == trial.fold) & (rows["seed"] == trial.seed)].set_index(["image", "attack"])
    eps = {named.label: named.attack.eps for named in results.spec.attacks}

    def under(attack: str, number: int) -> Attacked:
        row, pixels, limit = (
            rows.loc[(names[number], attack)],
            attacked[list(attacks).index(attack), number],
            eps[attack],
        )
        perturbation = perturbation_uri(pixels - clean[number], limit)
        return Attacked(attack, _prediction(row, pixels), perturbation, round(1 / (2 * limit)) if limit else 0)

    names = [harmless(name) for name in images[:SHOWN].tolist()]  # as the rows call them
    return [
        Example(
            name,
            str(rows.loc[(name, "none")]["label"]),
            _prediction(rows.loc[(name, "none")], clean[number]),
            [under(str(attack), number) for attack in attacks],
        )
        for number, name in enumerate(names)
    ]


def _prediction(row: "pd.Series[Any]", pixels: "np.ndarray[Any, Any]") -> Prediction:
    label = str(row["prediction"])
    return Prediction(label, float(row["score"]), label == row["label"], picture_uri(pixels))
