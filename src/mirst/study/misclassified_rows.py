"""Which images the tables of a study call misclassified under attack, and which of them a witness covers."""

from collections.abc import Mapping

import pandas as pd

from mirst.evaluation import CLEAN
from mirst.study.summary import TRIAL

CERTIFY = "certify"
"""The `attack` of the rows of a table of certificates."""
_CLAIM = ["source", "image", "prediction"]


def misclassified_rows(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`source, image, attack, eps, prediction` of the attacked rows with a wrong prediction, and the trial if given.

    A row whose image is classified like this without attack is left out: the image itself is the witness.

    Args:
        tables: `outcomes`, and those of suites and `certificates`, by name.

    >>> rows = {"source": "s", "image": "a", "label": "b", "attack": ["none", "pgd"], "eps": [0, 0.1]}
    >>> misclassified_rows({"outcomes": pd.DataFrame(rows | {"prediction": ["b", "c"]})})["attack"].tolist()
    ['pgd']
    """
    keys = [name for name in TRIAL if name in tables["outcomes"]]
    parts = []
    for name, table in tables.items():
        own = table
        if name == "certificates":
            own = table.assign(attack=CERTIFY, prediction=table["attacked_prediction"])
        parts.append(own[[*keys, "source", "image", "label", "attack", "eps", "prediction"]])
    rows = pd.concat(parts, ignore_index=True)
    clean = rows[rows["attack"] == CLEAN][[*keys, *_CLAIM]].assign(itself=True)
    wrong = rows[(rows["attack"] != CLEAN) & (rows["prediction"] != rows["label"])]
    beside = wrong.merge(clean, on=[*keys, *_CLAIM], how="left")
    return beside[beside["itself"].isna()].drop(columns=["itself", "label"]).reset_index(drop=True)


def uncovered(rows: pd.DataFrame, witnesses: pd.DataFrame) -> pd.DataFrame:
    """The rows of `misclassified_rows` without a witness of the same prediction within their eps."""
    keys = [name for name in TRIAL if name in witnesses]
    least = witnesses.groupby([*keys, *_CLAIM])["eps"].min().rename("least").reset_index() if len(witnesses) else None
    if least is None:
        return rows
    beside = rows.merge(least, on=[*keys, *_CLAIM], how="left")
    return rows[~(beside["least"] <= beside["eps"]).to_numpy()]
