"""Outcome rows and certificates that agree with themselves, the study and the models' cards."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirst.attacks import Attack
from mirst.bounds import METHODS
from mirst.dossier.answers import Answer, Verdict, judged
from mirst.errors import MirstError
from mirst.evaluation import CLEAN
from mirst.evaluation.outcomes import TOLERANCE
from mirst.nn import CertifiedMetrics, ModelCard
from mirst.study.post_hoc.certificates import certified_figures
from mirst.study.results import Results
from mirst.study.summary import TRIAL
from mirst.study.trial import Trial

NEAR = 1e-6
"""Of a score and a threshold: they are equal up to rounding."""


def check_cards(results: Results, cards: Mapping[Trial, ModelCard]) -> Answer:
    """Whether the models say of themselves what the study says."""
    spec, faults = results.spec, list[str]()
    for trial, card in cards.items():
        stated = {
            "model": spec.model.name,
            "options": spec.model.options,
            "drop_max": trial.entry.drop_max,
            "channels": spec.data.channels,
            "size": spec.data.size,
            "view": spec.data.view,
            "margin": spec.data.margin,
            "box": spec.model.box,
            "bound": spec.model.bound,
            "classes": results.classes,
            "positive": results.positive,
        }
        if results.origin is None:
            stated["defense"] = repr(trial.entry.defense)
        faults += [
            f"{trial.name} has {key} {getattr(card, key)}, but the study {value}"
            for key, value in stated.items()
            if getattr(card, key) != value and (key != "defense" or ":" not in trial.entry.name)
        ]
    return judged("cards", faults, Verdict.RECOMPUTED, f"the cards of {len(cards)} models agree with the study")


def check_card_figures(certificates: pd.DataFrame | None, cards: Mapping[Trial, ModelCard]) -> Answer:
    """Whether the certified metrics that the models state of themselves follow from the certificates."""
    faults = list[str]()
    for trial, card in cards.items():
        own = () if certificates is None else certified_figures(rows_of(certificates, trial), card)
        if not _same_figures(card.certified, own):
            faults.append(f"{trial.name} states other certified metrics than its certificates give")
    return judged("certified metrics", faults, Verdict.RECOMPUTED, "those that the models state follow")


def check_conditions(results: Results) -> Answer:
    """Whether every row has the eps of its attack and a distance within it, and no distance without attack."""
    attacks: dict[str, Attack] = {entry.label: entry.attack for entry in results.spec.attacks}
    rows = results.outcomes
    stated = rows["attack"].map({CLEAN: 0.0, **{label: attack.eps for label, attack in attacks.items()}})
    faults = _named(rows, ~np.isclose(rows["eps"], stated, rtol=0, atol=1e-12), "has another eps than its attack")
    every = [rows, *results.suites.values()]
    for table in every:
        if "linf" in table:
            faults += _named(table, ~(table["linf"] <= table["eps"] + TOLERANCE), "has a distance beyond its eps")
    return judged(
        "conditions", faults, Verdict.RECOMPUTED, f"{sum(map(len, every))} rows are within the eps of their attacks"
    )


def check_decisions(results: Results, cards: Mapping[Trial, ModelCard]) -> Answer:
    """Whether the predictions follow from the scores and the operating points of the models, for two classes."""
    if len(results.classes) != 2:
        return Answer(Verdict.UNCHECKED, "decisions", "the scores of more than two classes do not give the prediction")
    faults, count = list[str](), 0
    for rows in [results.outcomes, *results.suites.values()]:
        threshold = _thresholds(rows, cards)
        ahead = rows["score"].to_numpy(dtype=float) - threshold
        is_positive = (rows["prediction"] == results.positive).to_numpy()
        count += len(rows)
        faults += _named(
            rows, (np.abs(ahead) > NEAR) & ((ahead > 0) != is_positive), "has a prediction against its score"
        )
    return judged(
        "decisions", faults, Verdict.RECOMPUTED, f"{count} predictions follow from their scores and thresholds"
    )


def check_certificate_rows(
    results: Results, rows: pd.DataFrame | None, cards: Mapping[Trial, ModelCard]
) -> Answer | None:
    """Whether certificates agree with their bounds, and with the rows without attack.

    Args:
        rows: of `certificates.csv`, if there are any.
    """
    if rows is None:
        return None
    require_numbers(rows)
    certified = rows["certified"].astype(bool)
    faults = _named(rows, certified != (rows["margin"] > 0), "is certified against its bound")
    faults += _named(rows, certified & (rows["largest_eps"] < rows["eps"]), "is certified beyond its largest_eps")
    if len(results.classes) == 2:
        threshold = _thresholds(rows, cards)
        sign = np.where(rows["label"] == results.positive, 1, -1)
        score = threshold + sign * rows["margin"].to_numpy(dtype=float)
        faults += _named(
            rows, ~np.isclose(score, rows["score"], rtol=NEAR, atol=NEAR), "has a score against its margin"
        )
    clean = results.outcomes[results.outcomes["attack"] == CLEAN]
    keys = [*TRIAL, "source", "image"]
    beside = rows.merge(clean[[*keys, "prediction"]], on=keys, how="left", suffixes=("", "_clean"))
    faults += _named(
        beside, beside["prediction"] != beside["prediction_clean"], "has another prediction than outcomes.csv"
    )
    return judged(
        "certificates",
        faults,
        Verdict.RECOMPUTED,
        f"{int(certified.sum())} of {len(rows)} rows are certified by their bounds",
    )


def require_numbers(rows: pd.DataFrame) -> None:
    """Raise `MirstError` unless the columns of a table of certificates have their kinds."""
    for column in ("eps", "margin", "score", "largest_eps", "clean_score", "attacked_score"):
        if not pd.api.types.is_float_dtype(rows[column]) or rows[column].isna().any():
            raise MirstError(f"certificates.csv has a {column} that is not a number")
    if not pd.api.types.is_bool_dtype(rows["certified"]) or not rows["method"].isin(list(METHODS)).all():
        raise MirstError("certificates.csv has a method that is unknown, or a certified that is neither True nor False")


def rows_of(rows: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    """The rows of a table that belong to a trial."""
    keys = trial.key()
    return rows[np.logical_and.reduce([rows[name] == keys[name] for name in TRIAL])]


def _same_figures(stated: Sequence[CertifiedMetrics], own: Sequence[CertifiedMetrics]) -> bool:
    """Whether they are equal up to rounding."""
    return len(stated) == len(own) and all(
        (one.eps, one.method, one.images, one.metrics.keys())
        == (other.eps, other.method, other.images, other.metrics.keys())
        and np.allclose(list(one.metrics.values()), [other.metrics[name] for name in one.metrics], rtol=0, atol=NEAR)
        for one, other in zip(stated, own, strict=True)
    )


def _thresholds(rows: pd.DataFrame, cards: Mapping[Trial, ModelCard]) -> NDArray[np.float64]:
    """The operating point of the model of each row."""
    of = {tuple(trial.key().values()): card.threshold for trial, card in cards.items()}
    return np.array([of.get(key, np.nan) for key in rows[TRIAL].itertuples(index=False, name=None)])


def _named(rows: pd.DataFrame, wrong: "NDArray[np.bool_] | pd.Series", what: str) -> list[str]:
    """A sentence for each row where `wrong` holds."""
    odd = rows[np.asarray(wrong)]
    return [
        f"the row of {row.image} ({row.defense}, fold {row.fold}, seed {row.seed}) {what}" for row in odd.itertuples()
    ]
