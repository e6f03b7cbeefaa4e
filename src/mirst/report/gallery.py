"""Which images of the positive class an attack turns, the most fragile first."""

import io
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from mirst.evaluation import curve
from mirst.report.differences import under_attack
from mirst.report.figures import data_uri
from mirst.report.tables import PROTOCOL, of_defense
from mirst.study import Results
from mirst.study.layout import TrialFolder
from mirst.study.named_configs import NamedDefense
from mirst.study.results import read_csv
from mirst.study.trial import Trial

SHOWN = 12
"""Images of each defense."""
SIDE = 128
"""Pixels of a picture at most, so that the page stays small."""
KEYS = ["fold", "seed", "source", "image"]
Pixels = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Turned:
    """An image that the attack turns. Probabilities are those of the positive class."""

    image: str
    fold: int
    eps: str
    """The smallest that turns it, as gray levels of 255."""
    clean: float
    attacked: float
    """Under the worst of the study's own attacks, at their eps."""


@dataclass(frozen=True)
class Picture:
    """Of an image at its smallest eps, as data URIs."""

    turned: Turned
    clean: str
    attacked: str
    perturbation: str


@dataclass(frozen=True)
class Gallery:
    """Of one defense."""

    title: str
    images: int
    """Of the positive class."""
    right: int
    """Answered rightly without an attack."""
    within: int
    """Of those, turned within the eps of the study's own attacks."""
    turned: list[Turned]
    """Of those, turned by some eps that was searched, the most fragile first."""
    pictures: list[Picture]
    """Of the first of them."""


def galleries(results: Results) -> list[Gallery]:
    """Of the one of highest F1 under attack and of the plain defense; none where nothing was searched."""
    if results.distances is None:
        return []
    rows = {entry: of_defense(results.distances, entry) for entry in results.spec.defenses}
    rows = {entry: own for entry, own in rows.items() if len(own)}

    def robust(entry: NamedDefense) -> float:
        return float(curve(rows[entry], [study_eps(results)], results.classes, results.positive)["f1"].iloc[0])

    best = max(rows, key=robust)
    plain = [entry for entry in rows if not hasattr(entry.defense, "eps")][:1]
    return [_gallery(results, entry, rows[entry]) for entry in dict.fromkeys((best, *plain))]


def study_eps(results: Results) -> float:
    """The largest of the study's own attacks."""
    return max(entry.attack.eps for entry in results.spec.attacks)


def _gallery(results: Results, entry: NamedDefense, rows: pd.DataFrame) -> Gallery:
    worst = of_defense(under_attack(results)[PROTOCOL], entry)[[*KEYS, "score"]]
    rows = rows[rows["label"] == results.positive].merge(worst, on=KEYS, suffixes=("", "_attacked"))
    right = rows[rows["prediction"] == results.positive]
    first = right[right["eps"].notna()].sort_values("eps", kind="stable")
    turned = [
        Turned(
            image=row["image"],
            fold=row["fold"],
            eps=_levels(row["eps"]),
            clean=float(expit(row["score"])),
            attacked=float(expit(row["score_attacked"])),
        )
        for row in first.to_dict("records")
    ]
    shown = zip(turned, first.head(SHOWN).to_dict("records"), strict=False)
    found = ((one, row, results.files.trial(Trial(entry, row["fold"], row["seed"]).name)) for one, row in shown)
    pictures = [_pictured(*one) for one in found if one[-1].distance_images.exists()]
    within = int((right["eps"] <= study_eps(results)).sum())
    return Gallery(entry.title, len(rows), len(right), within, turned, pictures)


def _levels(eps: float) -> str:
    """As gray levels of 255, two places or the first digit."""
    return f"{eps * 255:.2f}/255" if eps * 255 >= 0.1 else f"{eps * 255:.1g}/255"


def _pictured(turned: Turned, row: Mapping[Hashable, Any], folder: TrialFolder) -> Picture:
    names = read_csv(folder.distances)
    with np.load(folder.distance_images, allow_pickle=False) as file:
        own = names.iloc[file["rows"]]
        at = np.flatnonzero((own["source"] == row["source"]) & (own["image"] == row["image"]))[0]
        clean, delta = file["clean"][at] / 255, file["perturbation"][at].astype(float)
    return Picture(turned, _picture(clean), _picture(clean + delta), _signed(delta, row["eps"]))


def _picture(image: Pixels) -> str:
    """Of `(C, H, W)` in [0, 1]."""
    return _png(Image.fromarray((255 * image.clip(0, 1)).round().astype(np.uint8).transpose(1, 2, 0).squeeze()))


def _signed(delta: Pixels, eps: float) -> str:
    """The channel mean: red brighter, blue darker, full colour at eps."""
    colours = colormaps["RdBu_r"](delta.mean(0) / (2 * eps) + 0.5, bytes=True)
    return _png(Image.fromarray(colours[..., :3]).quantize(32))


def _png(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return data_uri(buffer.getvalue())
