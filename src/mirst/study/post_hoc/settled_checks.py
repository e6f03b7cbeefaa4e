"""The checks for gradient masking of a trial, with its certificates."""

import json
from collections.abc import Sequence

import numpy as np

from mirst.evaluation import Check, checked_eps, settled
from mirst.study.layout import TrialFolder
from mirst.study.results import read_csv


def settled_by_certificates(checks: Sequence[Check], folder: TrialFolder, suite: str) -> list[Check]:
    """As `settled`, if the trial has certificates at the eps of the checks; otherwise the checks as they are."""
    if not checks or not folder.certificates.exists():
        return list(checks)
    eps = checked_eps(json.loads(folder.suite_record(suite).read_text(encoding="utf-8"))["eps"])
    rows, certificates = read_csv(folder.table(suite)), read_csv(folder.certificates)
    attacked = rows[(rows["attack"] == suite) & np.isclose(rows["eps"], eps)]
    proven = certificates[np.isclose(certificates["eps"], eps) & certificates["certified"]]
    if not np.isclose(certificates["eps"], eps).any():
        return list(checks)
    survivors = attacked.loc[attacked["label"] == attacked["prediction"], ["source", "image"]]
    return settled(
        checks,
        surviving=len(survivors),
        certified=len(survivors.merge(proven[["source", "image"]])),
        images=len(attacked),
    )
