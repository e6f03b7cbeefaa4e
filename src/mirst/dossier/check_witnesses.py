"""Witnesses that belong to rows and lie in their balls; no image is needed for this."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from mirst.dossier.answers import Answer, Verdict, judged
from mirst.errors import MirstError
from mirst.evaluation.outcomes import TOLERANCE
from mirst.study.layout import StudyFolder
from mirst.study.misclassified_rows import uncovered
from mirst.study.results import read_csv
from mirst.study.summary import TRIAL
from mirst.study.trial import Trial
from mirst.untrusted.safetensors_files import open_tensors

NUMBERS = ("eps", "unit", "lead")


@dataclass(frozen=True)
class TrialWitnesses:
    """Of one model."""

    rows: pd.DataFrame
    steps: Tensor
    """`(N, C, H, W)`, int8: one for each row."""

    @property
    def reach(self) -> NDArray[np.float64]:
        """`(N,)`: the largest change of a pixel."""
        largest = self.steps.to(torch.int16).abs().flatten(1)
        most = largest.amax(1).numpy() if largest.numel() else np.zeros(len(largest))
        reach: NDArray[np.float64] = most * self.rows["unit"].to_numpy(dtype=float)
        return reach


def read_witnesses(study: StudyFolder, trials: list[Trial], shape: tuple[int, ...]) -> dict[Trial, TrialWitnesses]:
    """The witnesses of every trial.

    Args:
        shape: of an input of the models, `(C, H, W)`.

    Raises:
        MirstError: a table that is missing or of other kinds, or a file that does not have a perturbation for each row.
    """
    if not study.witnesses.is_file():
        raise MirstError("the dossier has no witnesses.csv; write it again with mirst dossier")
    rows = read_csv(study.witnesses)
    for column in NUMBERS:
        if len(rows) and not (pd.api.types.is_numeric_dtype(rows[column]) and np.isfinite(rows[column]).all()):
            raise MirstError(f"witnesses.csv has a {column} that is not a number")
    keys = {tuple(trial.key().values()): trial for trial in trials}
    own = [keys.get(key) for key in rows[TRIAL].itertuples(index=False, name=None)]
    if None in own:
        raise MirstError("witnesses.csv has a row of a trial that is not in the study")
    found = {}
    for trial in trials:
        part = rows[[one == trial for one in own]].reset_index(drop=True)
        found[trial] = TrialWitnesses(part, _steps(study.trial(trial.name).witnesses, (len(part), *shape)))
    return found


def check_balls(witnesses: Mapping[Trial, TrialWitnesses], channels: int) -> Answer:
    """Whether no witness moves a pixel by more than its eps, or changes the code of a box.

    Args:
        channels: of the image; any further one is the code of a box.
    """
    faults = list[str]()
    for trial, own in witnesses.items():
        eps = own.rows["eps"].to_numpy(dtype=float)
        boxes = own.steps[:, channels:].flatten(1).any(1).numpy()
        outside = (own.reach > eps + TOLERANCE) | (own.rows["unit"].to_numpy(dtype=float) < 0) | boxes
        faults += [f"that of {own.rows['image'].iloc[at]} ({trial.name}) is outside" for at in np.flatnonzero(outside)]
    count = sum(len(own.rows) for own in witnesses.values())
    return judged("balls", faults, Verdict.PROVED, f"all {count} witnesses are within their eps")


def check_claims(witnesses: Mapping[Trial, TrialWitnesses], claims: pd.DataFrame) -> list[Answer]:
    """Whether every witness belongs to a misclassified row, and every such row has a witness.

    Args:
        claims: as from `misclassified_rows`.
    """
    rows = pd.concat([own.rows for own in witnesses.values()], ignore_index=True)
    keys = [*TRIAL, "source", "image", "attack", "prediction"]
    beside = rows.merge(claims[[*keys, "eps"]], on=keys, how="left", suffixes=("", "_row"))
    held = beside[np.isclose(beside["eps"], beside["eps_row"], rtol=0, atol=1e-12)]
    stray = rows.merge(held[keys].drop_duplicates().assign(held=True), on=keys, how="left")["held"].isna()
    faults = [
        f"{row.image} ({row.defense}, fold {row.fold}, seed {row.seed}) has a witness of {row.prediction} under "
        f"{row.attack}, but no row says so"
        for row in rows[stray].itertuples()
    ]
    answers = [judged("claims", faults, Verdict.RECOMPUTED, f"{len(rows)} witnesses belong to rows of the study")]
    left = len(uncovered(claims, rows))
    if left:
        detail = f"{left} of {len(claims)} misclassified rows have no witness in the dossier"
        answers.append(Answer(Verdict.UNCHECKED, "unwitnessed rows", detail))
    return answers


def check_certified(witnesses: Mapping[Trial, TrialWitnesses], certificates: pd.DataFrame | None) -> Answer | None:
    """Whether no witness lies where its image is certified."""
    if certificates is None:
        return None
    rows = pd.concat([own.rows.assign(reach=own.reach) for own in witnesses.values()], ignore_index=True)
    keys = [*TRIAL, "source", "image"]
    beside = rows.merge(certificates.drop_duplicates(keys)[[*keys, "largest_eps"]], on=keys)
    broken = beside[beside["reach"] < beside["largest_eps"] - TOLERANCE]
    faults = [
        f"{row.image} ({row.defense}, fold {row.fold}) is certified, but has a witness" for row in broken.itertuples()
    ]
    return judged("certified", faults, Verdict.PROVED, "no witness lies within the certified eps of its image")


def _steps(path: Path, shape: tuple[int, ...]) -> Tensor:
    try:
        with open_tensors(path) as file:
            stated = file.get_slice("steps")
            there = stated.get_dtype(), stated.get_shape()
            if there != ("I8", list(shape)):
                raise ValueError(f"its steps are {there}, not {('I8', list(shape))}")
            steps: Tensor = file.get_tensor("steps")
            return steps
    except (OSError, ValueError, SafetensorError) as error:
        raise MirstError(f"the witnesses of {path.parent.name} cannot be read ({error})") from error
