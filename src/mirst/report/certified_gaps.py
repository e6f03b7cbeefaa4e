"""How far the nearest attack that was found lies beyond the largest certified eps, image by image."""

import numpy as np
import pandas as pd

from mirst.evaluation.certificates import ATTACK
from mirst.report.context import of_defense, pixels
from mirst.study import Results
from mirst.study.named_configs import NamedDefense
from mirst.study.summary import TRIAL

IMAGE = [*TRIAL, "source", "image"]
SEARCH = "search of the smallest eps"
NONE = "none found"
QUANTILES = {"smallest": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "largest": 1.0}
"""By heading, in the order of the columns."""
CERTIFIED, NOWHERE = "certified at some eps", "certified at no eps"


def nearest_attacks(results: Results) -> pd.DataFrame:
    """The nearest attack of each image that is classified correctly without an attack. There must be certificates.

    Returns:
        A row per image: the columns that name it, `label`, `largest_eps` (certified), `nearest_eps` (the smallest eps
        at which an attack of the folder misclassifies it; infinite if none does), `nearest_attack` and `gap`, the
        difference of the two. At equal eps the attack that the folder has first counts, that of the certificates last.
    """
    assert results.certificates is not None
    rows = results.certificates
    images = rows[rows["prediction"] == rows["label"]].drop_duplicates(IMAGE)[[*IMAGE, "label", "largest_eps"]]
    own = rows.assign(attack=ATTACK, prediction=rows["attacked_prediction"])
    parts = [results.outcomes, *results.suites.values(), own]
    if results.distances is not None:
        found = results.distances.dropna(subset="eps")
        parts.insert(0, found.assign(attack=SEARCH, prediction=found["broken_prediction"]))
    attacked = pd.concat([part[[*IMAGE, "label", "attack", "eps", "prediction"]] for part in parts])
    flips = attacked[attacked["prediction"] != attacked["label"]].sort_values("eps", kind="stable")
    first = flips.drop_duplicates(IMAGE)[[*IMAGE, "eps", "attack"]]
    both = images.merge(first.set_axis([*IMAGE, "nearest_eps", "nearest_attack"], axis=1), on=IMAGE, how="left")
    both = both.fillna({"nearest_eps": np.inf, "nearest_attack": NONE})
    return both.assign(gap=both["nearest_eps"] - both["largest_eps"])


def gap_quantiles(results: Results) -> pd.DataFrame:
    """The distribution of `nearest_attacks`, for images that are certified at some eps and for the others.

    Returns:
        A row per defense and kind of image: `defense, images` (which), `number`, a column per entry of `QUANTILES` (an
        observed gap; infinite where no attack was found) and `attacks`, how often each attack was the nearest.
    """
    lines, nearest = [], nearest_attacks(results)
    for entry in _entries(results):
        own = of_defense(nearest, entry)
        for kind, part in ((CERTIFIED, own[own["largest_eps"] > 0]), (NOWHERE, own[own["largest_eps"] == 0])):
            if len(part):
                ends = np.quantile(part["gap"], list(QUANTILES.values()), method="inverted_cdf")
                counts = part["nearest_attack"].value_counts()
                attacks = ", ".join(f"{name} {count}" for name, count in counts.items())
                lines.append((entry.title, kind, len(part), *ends, attacks))
    return pd.DataFrame(lines, columns=["defense", "images", "number", *QUANTILES, "attacks"])


def gap_text(quantiles: pd.DataFrame) -> pd.DataFrame:
    """The rows of `gap_quantiles` for readers, in gray levels of 255.

    >>> one = {"defense": "ibp", "images": CERTIFIED, "number": 3, "attacks": "pgd 2, none found 1"}
    >>> ends = {"smallest": 1 / 255, "25 %": 1 / 255, "median": 2 / 255, "75 %": np.inf, "largest": np.inf}
    >>> gap_text(pd.DataFrame([one | ends]))[["smallest", "largest"]].iloc[0].tolist()
    ['1.00/255', 'none found']
    """

    def shown(gap: float) -> str:
        return f"{255 * gap:.2f}/255" if np.isfinite(gap) else NONE

    return quantiles.assign(**{name: quantiles[name].map(shown) for name in QUANTILES}).rename(
        columns={"attacks": "nearest attack"}
    )


def between(results: Results) -> pd.DataFrame:
    """How many images lie between proof and attack at each eps of the certificates.

    Returns:
        A row per defense and eps: `defense, eps, images, certified, between` (neither certified nor misclassified by
        any attack within eps) and `misclassified`.
    """
    assert results.certificates is not None
    lines = []
    for entry in _entries(results):
        own = of_defense(results.certificates, entry)
        for eps, rows in own.groupby("eps"):
            wrong = rows["attacked_prediction"] != rows["label"]
            certified, misclassified = int(rows["certified"].sum()), int(wrong.sum())
            rest = len(rows) - certified - misclassified
            lines.append((entry.title, eps, len(rows), certified, rest, misclassified))
    return pd.DataFrame(lines, columns=["defense", "eps", "images", "certified", "between", "misclassified"])


def between_text(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `between` for readers.

    >>> row = {"defense": "ibp", "eps": 5 / 255, "images": 9, "certified": 5, "between": 1, "misclassified": 3}
    >>> between_text(pd.DataFrame([row]))["eps"].item()
    '5/255'
    """
    return table.assign(eps=table["eps"].map(pixels))


def _entries(results: Results) -> list[NamedDefense]:
    assert results.certificates is not None
    return [entry for entry in results.spec.defenses if len(of_defense(results.certificates, entry))]
