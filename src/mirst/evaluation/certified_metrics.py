"""Metrics between proof and attack: what no attack within eps can fall below, and what an attack has reached."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mirst.evaluation.certificates import ATTACK
from mirst.evaluation.intervals import interval
from mirst.metrics import ANY_WRONG, AUC_MACRO, study_metrics

IMAGE = ("source", "image")
"""The columns that name the image of a row."""
SLACK = 1e-9
"""By how much the eps of two tables may differ by rounding."""


def certified_rows(certificates: pd.DataFrame, classes: Sequence[str], positive: str | None) -> pd.DataFrame:
    """The rows with the worst prediction and score that the bounds allow, as the attack `certified (METHOD)`.

    An image that is not certified counts as misclassified, with more than two classes as every wrong class at once.
    The metrics of these rows are lower bounds of the metrics under any attack within eps.

    Args:
        certificates: as from `named_certificates`.

    >>> row = {"label": "b", "certified": False, "score": -1.0, "method": "interval", "eps": 0.02}
    >>> certified_rows(pd.DataFrame([row]), ("a", "b"), "b")[["attack", "prediction"]].iloc[0].tolist()
    ['certified (interval)', 'a']
    """
    if len(classes) == 2:
        other = dict(zip(classes, reversed(classes), strict=True))
        wrong = certificates["label"].map(other)
    else:
        wrong = pd.Series(ANY_WRONG, index=certificates.index)
    return certificates.assign(
        attack="certified (" + certificates["method"] + ")",
        prediction=certificates["label"].where(certificates["certified"], wrong),
    )


def attacked_rows(certificates: pd.DataFrame) -> pd.DataFrame:
    """The rows with the prediction and the score that the attack of the certificates has reached."""
    return certificates.assign(
        attack=ATTACK, prediction=certificates["attacked_prediction"], score=certificates["attacked_score"]
    )


def with_attacks(
    certificates: pd.DataFrame, rows: pd.DataFrame, positive: str, keys: Sequence[str] = IMAGE
) -> pd.DataFrame:
    """The certificates, with `attacked_prediction` and `attacked_score` the worst of theirs and those of other attacks.

    An attack within a smaller eps counts at every larger one.

    Args:
        certificates: as from `named_certificates`.
        rows: outcome rows, with `worst_score` or without.
        positive: the class whose log-odds the scores are.
        keys: the columns that pair a row with the certificates of its image.
    """
    on, parts = list(keys), []
    side = np.where(rows["label"] == positive, 1, -1)
    scores = [rows["score"], *([rows["worst_score"]] if "worst_score" in rows else [])]
    signed = rows.assign(signed=np.fmin.reduce([side * score for score in scores]))
    for eps in certificates["eps"].unique():
        own = certificates[certificates["eps"] == eps]
        within = signed[signed["eps"] <= eps + SLACK]
        flips = within[within["prediction"] != within["label"]].drop_duplicates(on)
        worst = within.groupby(on)["signed"].min()
        of_image = pd.MultiIndex.from_frame(own[on])
        flipped = flips.set_index(on)["prediction"].reindex(of_image).to_numpy()
        sign = np.where(own["label"] == positive, 1, -1)
        still_right = own["attacked_prediction"] == own["label"]
        parts.append(
            own.assign(
                attacked_prediction=own["attacked_prediction"].mask(still_right & pd.notna(flipped), flipped),
                attacked_score=sign * np.fmin(sign * own["attacked_score"], worst.reindex(of_image).to_numpy()),
            )
        )
    together: pd.DataFrame = pd.concat(parts).loc[certificates.index]
    return together


def two_sided(
    certificates: pd.DataFrame, classes: Sequence[str], positive: str | None, of_model: Sequence[str] = ()
) -> pd.DataFrame:
    """Every metric from both sides, with 95 % intervals by group: certified <= true <= attacked.

    The true value is the metric under the worst attack within eps, which nobody knows.

    Args:
        certificates: as from `named_certificates` or `with_attacks`.
        of_model: as for `mirst.evaluation.interval`.

    Returns:
        A row per eps and metric: `eps, method, metric, images, certified, certified_low, certified_high, attacked,
        attacked_low, attacked_high`.
    """
    measured = [name for name in study_metrics(positive) if name != AUC_MACRO.name]  # bounds are of one class's score
    lines = []
    for eps in sorted(certificates["eps"].unique()):
        own = certificates[certificates["eps"] == eps]
        proof, attack = certified_rows(own, classes, positive), attacked_rows(own)
        for name in measured:
            line = {"eps": eps, "method": own["method"].iloc[0], "metric": name, "images": len(own)}
            for side, rows in (("certified", proof), ("attacked", attack)):
                found = interval(rows, classes, positive, name, of_model=of_model)
                line |= {side: found.value, f"{side}_low": found.low, f"{side}_high": found.high}
            lines.append(line)
    return pd.DataFrame(lines)
