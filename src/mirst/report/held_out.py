"""Outcome rows beside a calibration on images that their model was not trained on, nor is tested on here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_expit

from mirst.calibration import Calibration, softmax
from mirst.evaluation import CLEAN
from mirst.evaluation.judge import WORST
from mirst.metrics import CLASS_SCORE
from mirst.nn import read_card
from mirst.report.context import PROTOCOL, ReportContext, of_defense, pixels
from mirst.study import Results
from mirst.study.summary import MODEL
from mirst.study.trial import Trial

Floats = NDArray[np.float64]
OWN = "its validation images"
"""The calibration that the checkpoint of the model carries."""
OTHERS = "other folds"
"""The test images of the other folds, each with the logits of the model of its own fold and the same seed."""


@dataclass(frozen=True)
class HeldOut:
    """The rows of one defense under one attack, and the calibration of the model of each row.

    >>> rows = pd.DataFrame({"fold": [0], "seed": 0, "group": "a", "label": "a", "prediction": "a", "score": -1.0})
    >>> calibration = Calibration.of([[1.0, 0.0]], [0], ["b"])
    >>> one = HeldOut("ce", "no attack", OTHERS, rows, ("a", "b"), "b", {(0, 0): calibration})
    >>> one.sets(0.9)
    array([[ True,  True]])
    """

    defense: str
    attack: str
    """Its heading."""
    calibrated_on: str
    rows: pd.DataFrame
    classes: tuple[str, ...]
    positive: str | None
    models: dict[tuple[int, int], Calibration]
    """By fold and seed."""

    @cached_property
    def logits(self) -> Floats:
        """`(N, K)`, NaN for a row without finite logits."""
        return logits_in(self.rows, self.classes, self.positive)

    @cached_property
    def is_scored(self) -> NDArray[np.bool_]:
        """`(N,)`, which rows have finite logits."""
        return np.asarray(np.isfinite(self.logits).all(1), dtype=bool)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return labels_in(self.rows, self.classes)

    @cached_property
    def uncalibrated(self) -> Floats:
        """Probabilities, `(N, K)`."""
        return softmax(self.logits)

    @cached_property
    def calibrated(self) -> Floats:
        """Probabilities, `(N, K)`."""
        return self._by_model(lambda one, logits: one.probabilities(logits))

    def sets(self, coverage: float) -> NDArray[np.bool_]:
        """`(N, K)`, the classes in the set of each row."""
        contained = self._by_model(lambda one, logits: np.asarray(one.sets(logits, coverage), dtype=float))
        return np.asarray(contained, dtype=bool)

    def _by_model(self, apply: Callable[[Calibration, Floats], Floats]) -> Floats:
        found = np.full_like(self.logits, np.nan)
        fold, seed = (self.rows[name].to_numpy() for name in MODEL)
        for model, calibration in self.models.items():
            at = (fold == model[0]) & (seed == model[1])
            found[at] = apply(calibration, self.logits[at])
        return found


def held_out(context: ReportContext) -> Iterator[HeldOut]:
    """For every defense, calibration and attack, clean first; without the defenses that lack a trial.

    The attacks are the study's own, the worst of them per image, and each suite whose worst scores were measured.
    Attacks of a suite end at a misclassification, so its other scores are not the worst. Without logits there is
    nothing: folders of older versions have none of studies of more than two classes.
    """
    results = context.results
    for entry in results.spec.defenses:
        trials = results.trials(entry)
        clean = of_defense(context.under_attack[CLEAN], entry)
        if not results.is_whole(entry) or not np.isfinite(logits_in(clean, results.classes, results.positive)).any():
            continue
        for calibrated_on, models in _calibrations(results, trials, clean).items():
            for attack, rows in attacked_rows(context).items():
                own = of_defense(rows, entry)
                classes, positive = results.classes, results.positive
                yield HeldOut(entry.title, attack, calibrated_on, own, classes, positive, models)


def logits_in(rows: pd.DataFrame, classes: tuple[str, ...], positive: str | None) -> Floats:
    """Logits `(N, K)` of outcome rows, up to a number per row; NaN for a row without finite logits."""
    if len(classes) == 2:
        score = rows["score"].to_numpy(dtype=float)
        logits = np.where(np.array(classes) == positive, score[:, None], 0.0)
        return np.where((np.abs(score) < WORST)[:, None], logits, np.nan)
    scores = rows.reindex(columns=[CLASS_SCORE + name for name in classes]).to_numpy(dtype=float)
    return np.where((np.abs(scores) < WORST).all(1, keepdims=True), log_expit(scores), np.nan)


def labels_in(rows: pd.DataFrame, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Class indices `(N,)` of outcome rows."""
    return np.array([classes.index(label) for label in rows["label"]], dtype=np.int64)


def _calibrations(
    results: Results, trials: list[Trial], clean: pd.DataFrame
) -> dict[str, dict[tuple[int, int], Calibration]]:
    """By what the models are calibrated on, as far as all of them are; each by fold and seed."""
    found: dict[str, dict[tuple[int, int], Calibration]] = {}
    own = {(trial.fold, trial.seed): _carried(results, trial) for trial in trials}
    carried = {model: one for model, one in own.items() if one is not None}
    if len(carried) == len(own):
        found[OWN] = carried
    if results.spec.folds.count > 1:
        found[OTHERS] = {(trial.fold, trial.seed): _from_others(results, clean, trial) for trial in trials}
    return found


def _carried(results: Results, trial: Trial) -> Calibration | None:
    path = results.files.trial(trial.name).model
    return read_card(path).calibration if path.exists() else None


def _from_others(results: Results, clean: pd.DataFrame, trial: Trial) -> Calibration:
    """From the rows of the other folds; folds that ignore groups may share some, which are left out."""
    tested = clean.loc[clean["fold"] == trial.fold, "group"]
    rows = clean[(clean["seed"] == trial.seed) & ~clean["group"].isin(tested)]
    logits = logits_in(rows, results.classes, results.positive)
    return Calibration.of(logits, labels_in(rows, results.classes), rows["group"].tolist())


def attacked_rows(context: ReportContext) -> dict[str, pd.DataFrame]:
    """Outcome rows by heading, clean first, as `held_out` has them."""
    results = context.results
    found = {"no attack": context.under_attack[CLEAN]}
    for entry in results.spec.attacks:
        rows = results.outcomes[results.outcomes["attack"] == entry.label]
        found[f"{entry.label} (eps {pixels(entry.attack.eps)})"] = rows
    for name, rows in context.under_attack.items():
        heading = f"{name} (eps {pixels(rows['eps'].max())})"
        if name == PROTOCOL:
            found[heading] = rows
        elif (
            name != CLEAN and len(results.classes) == 2 and "worst_score" in rows and rows["worst_score"].notna().all()
        ):
            found[heading] = rows.assign(score=rows["worst_score"])
    return found
