"""Cross-validation folds that keep a group on one side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mirst.data.curate import assign_groups
from mirst.data.record import Record
from mirst.errors import MirstError

Indices = NDArray[np.int64]
FoldKind = Literal["group", "random"]


@dataclass(frozen=True)
class Fold:
    """Indices into the records."""

    train: Indices
    test: Indices


def make_folds(records: Sequence[Record], count: int = 5, kind: FoldKind = "group", seed: int = 0) -> list[Fold]:
    """`count` stratified folds, the same for the same records and seed.

    Args:
        kind: "group" keeps each group on one side (records without one go through `assign_groups`);
            "random" splits image by image, the paper's way, and so lets near-duplicates leak from
            training into test.

    Raises:
        MirstError: fewer than two folds, or a class with fewer images or groups than folds.
    """
    if count < 2:
        raise MirstError(f"folds.count is {count}; cross-validation needs at least 2")
    if kind == "group" and any(record.group is None for record in records):
        records = assign_groups(records)
    labels = np.array([record.label for record in records])
    units = _units(records, kind)
    for label in np.unique(labels):
        have = len(np.unique(units[labels == label]))
        if have < count:
            what = "groups" if kind == "group" else "images"
            raise MirstError(
                f"class {label} has {have} {what}, fewer than the {count} folds; lower folds.count or add images"
            )
    return [Fold(train, test) for train, test in _split(labels, units, count, kind, seed)]


def split_validation(
    records: Sequence[Record], indices: Indices, fraction: float, kind: FoldKind = "group", seed: int = 0
) -> Fold:
    """Split the records at `indices` into training (`.train`) and validation (`.test`) indices.

    The validation part is stratified and, for "group", holds whole groups.

    Raises:
        MirstError: a class has fewer than two groups (images) to share out.
    """
    labels = np.array([records[i].label for i in indices])
    units = _units([records[i] for i in indices], kind)
    rarest = min(len(np.unique(units[labels == label])) for label in np.unique(labels))
    if rarest < 2:
        raise MirstError("a class is too small to hold out validation images; set training.val_fraction=0")
    count = min(max(2, round(1 / fraction)), rarest)
    train, val = _split(labels, units, count, kind, seed)[0]
    return Fold(indices[train], indices[val])


def _units(records: Sequence[Record], kind: FoldKind) -> NDArray[np.str_]:
    """What may not be torn apart: groups, or single images."""
    return np.array([str(record.group) if kind == "group" else str(i) for i, record in enumerate(records)])


def _split(
    labels: NDArray[np.str_], units: NDArray[np.str_], count: int, kind: FoldKind, seed: int
) -> list[tuple[Indices, Indices]]:
    if kind == "group":
        return list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(labels, labels, units))
    return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels))
