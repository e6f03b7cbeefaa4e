"""Images of the positive class, or else of all classes, whose prediction an attack flips, the smallest eps first."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from mirst.evaluation import curve
from mirst.report.context import PROTOCOL, ReportContext, of_defense
from mirst.report.pictures import perturbation_uri, picture_uri
from mirst.study import Results
from mirst.study.layout import TrialFolder
from mirst.study.named_configs import NamedDefense
from mirst.study.results import read_csv
from mirst.study.trial import Trial

SHOWN = 12
"""Number of images of each defense."""
KEYS = ["fold", "seed", "source", "image"]


@dataclass(frozen=True)
class Flipped:
    """An image whose prediction the attack flips. Probabilities are those of the positive class.

    >>> Flipped("a.png", fold=0, eps="1.50/255", clean=0.9, attacked=0.2, label="b", predicted="a").eps
    '1.50/255'
    """

    image: str
    fold: int
    eps: str
    """The smallest that flips it, in gray levels of 255."""
    clean: float
    attacked: float
    """Under the worst of the study's own attacks, at their eps."""
    label: str
    predicted: str
    """At the smallest eps."""


@dataclass(frozen=True)
class Picture:
    """The pictures of an image at its smallest eps, as data URIs.

    >>> image = Flipped("a.png", fold=0, eps="1.50/255", clean=0.9, attacked=0.2, label="b", predicted="a")
    >>> Picture(image, clean="data:", attacked="data:", perturbation="data:").flipped.image
    'a.png'
    """

    flipped: Flipped
    clean: str
    attacked: str
    perturbation: str


@dataclass(frozen=True)
class Gallery:
    """The images of one defense.

    >>> Gallery("ce", images=12, correct=9, within=5, flipped=[], pictures=[]).within
    5
    """

    title: str
    images: int
    """Number of images of the positive class, or else of all classes."""
    correct: int
    """How many of them are classified correctly without an attack."""
    within: int
    """How many of those are flipped within the eps of the study's own attacks."""
    flipped: list[Flipped]
    """Those that are flipped at some eps of the search, the smallest eps first."""
    pictures: list[Picture]
    """Of the first of `flipped`."""


def galleries(context: ReportContext) -> list[Gallery]:
    """For the defense of highest F1 under attack and for training without attacks; none without a distance search."""
    results = context.results
    if results.distances is None:
        return []
    rows = {entry: of_defense(results.distances, entry) for entry in results.spec.defenses}
    rows = {entry: own for entry, own in rows.items() if len(own)}

    def robust(entry: NamedDefense) -> float:
        return float(curve(rows[entry], [study_eps(results)], results.classes, results.positive)["f1"].iloc[0])

    best = max(rows, key=robust)
    undefended = [entry for entry in rows if not hasattr(entry.defense, "eps")][:1]
    return [_gallery(context, entry, rows[entry]) for entry in dict.fromkeys((best, *undefended))]


def study_eps(results: Results) -> float:
    """The largest eps of the study's own attacks."""
    return max(entry.attack.eps for entry in results.spec.attacks)


def _gallery(context: ReportContext, entry: NamedDefense, rows: pd.DataFrame) -> Gallery:
    results = context.results
    worst = of_defense(context.under_attack[PROTOCOL], entry)[[*KEYS, "score"]]
    rows = rows if results.positive is None else rows[rows["label"] == results.positive]
    rows = rows.merge(worst, on=KEYS, suffixes=("", "_attacked"))
    correct = rows[rows["prediction"] == rows["label"]]
    first = correct[correct["eps"].notna()].sort_values("eps", kind="stable")
    flipped = [
        Flipped(
            image=row["image"],
            fold=row["fold"],
            eps=_levels(row["eps"]),
            clean=float(expit(row["score"])),
            attacked=float(expit(row["score_attacked"])),
            label=row["label"],
            predicted=row["broken_prediction"],
        )
        for row in first.to_dict("records")
    ]
    pictures = []
    for image, row in zip(flipped, first.head(SHOWN).to_dict("records"), strict=False):
        folder = results.files.trial(Trial(entry, row["fold"], row["seed"]).name)
        if folder.distance_images.exists():
            pictures.append(_pictured(image, row, folder))
    within = int((correct["eps"] <= study_eps(results)).sum())
    return Gallery(entry.title, len(rows), len(correct), within, flipped, pictures)


def _levels(eps: float) -> str:
    """In gray levels of 255, with two decimals or one significant digit."""
    return f"{eps * 255:.2f}/255" if eps * 255 >= 0.1 else f"{eps * 255:.1g}/255"


def _pictured(flipped: Flipped, row: Mapping[Hashable, Any], folder: TrialFolder) -> Picture:
    names = read_csv(folder.distances)
    with np.load(folder.distance_images, allow_pickle=False) as file:
        own = names.iloc[file["rows"]]
        at = np.flatnonzero((own["source"] == row["source"]) & (own["image"] == row["image"]))[0]
        clean, delta = file["clean"][at] / 255, file["perturbation"][at].astype(float)
    return Picture(flipped, picture_uri(clean), picture_uri(clean + delta), perturbation_uri(delta, row["eps"]))
