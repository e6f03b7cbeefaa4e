"""The epochs of a trial, on disk."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from mirst.study.layout import TrialFolder
from mirst.training import Epoch
from mirst.training.state import read_epochs

TERM = "loss_"


def history_table(history: Sequence[Epoch], kept: int | None = None) -> pd.DataFrame:
    """The fields of `Epoch`, its terms as `loss_NAME`, and whether the epoch's weights were `kept`.

    `attacked_auc` is a column only if an epoch has it.
    """
    rows = []
    has_auc = any(epoch.attacked_auc is not None for epoch in history)
    for epoch in history:
        row = asdict(epoch)
        if not has_auc:
            del row["attacked_auc"]
        rows.append(row | {f"{TERM}{name}": value for name, value in row.pop("terms").items()})
    return pd.DataFrame(rows).assign(kept=lambda table: table["number"] == kept)


def read_history(folder: TrialFolder) -> pd.DataFrame:
    """The epochs of the trial, as from `history_table`."""
    history = pd.read_csv(folder.history)
    if not history.columns.str.startswith(TERM).any():
        history["clean"] = float("nan")  # older versions wrote a term of the loss there
    return history


def epochs_so_far(folder: TrialFolder) -> list[Epoch]:
    """The epochs that the trial has trained by now, whether it runs or has ended."""
    if folder.history.exists():
        return [_epoch(row) for row in read_history(folder).to_dict("records")]
    return read_epochs(folder.state)


def _epoch(row: dict[Any, Any]) -> Epoch:
    values: dict[str, Any] = {"clean": None, "attacked": None}
    values |= {field.name: row[field.name] for field in fields(Epoch) if pd.notna(row.get(field.name))}
    terms = {name.removeprefix(TERM): value for name, value in row.items() if name.startswith(TERM)}
    return Epoch(**values, terms={name: value for name, value in terms.items() if pd.notna(value)})
