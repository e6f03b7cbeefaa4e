"""Cross-validation folds that keep a group on one side."""

from collections.abc import Iterable, Iterator, Sequence
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
REDRAWS = 100


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

    Every class occurs in every test fold and in what is left for training. Folds in which one is
    missing are drawn again.

    Raises:
        MirstError: fewer than two folds, a class with fewer images or groups than folds, or no draw
            in which every fold has every class.
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
    for folds in _draws(labels, units, count, kind, seed):
        if all(_complete(fold, labels) for fold in folds):
            return folds
    raise MirstError(
        f"no {count} folds were found that all hold images of every class, since large groups take up whole folds; "
        "lower folds.count or add images"
    )


def split_validation(
    records: Sequence[Record], indices: Indices, fraction: float, kind: FoldKind = "group", seed: int = 0
) -> Fold:
    """Split the records at `indices` into training (`.train`) and validation (`.test`) indices.

    The validation part is stratified and, for "group", holds whole groups. Both parts hold every class.

    Raises:
        MirstError: a class has fewer than two groups (images) to share out, or no such split was found.
    """
    labels = np.array([records[i].label for i in indices])
    units = _units([records[i] for i in indices], kind)
    rarest = min(len(np.unique(units[labels == label])) for label in np.unique(labels))
    count = min(max(2, round(1 / fraction)), rarest)
    for folds in _draws(labels, units, count, kind, seed) if count > 1 else ():
        for fold in folds:
            if _complete(fold, labels):
                return Fold(indices[fold.train], indices[fold.test])
    raise MirstError("a class is too small to hold out validation images; set training.val_fraction=0")


def _units(records: Sequence[Record], kind: FoldKind) -> NDArray[np.str_]:
    """What may not be torn apart: groups, or single images."""
    return np.array([str(record.group) if kind == "group" else str(i) for i, record in enumerate(records)])


def _draws(
    labels: NDArray[np.str_], units: NDArray[np.str_], count: int, kind: FoldKind, seed: int
) -> Iterator[list[Fold]]:
    """Those of scikit-learn; for groups, others in which the groups of the rarest class are dealt first."""
    if kind == "random":
        yield _folds(StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels))
        return
    yield _folds(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(labels, labels, units))
    rng = np.random.default_rng(seed)
    for _ in range(REDRAWS):
        number = _dealt(labels, units, count, rng)
        yield _folds((np.flatnonzero(number != n), np.flatnonzero(number == n)) for n in range(count))


def _folds(pairs: Iterable[tuple[Indices, Indices]]) -> list[Fold]:
    return [Fold(train, test) for train, test in pairs]


def _dealt(labels: NDArray[np.str_], units: NDArray[np.str_], count: int, rng: np.random.Generator) -> Indices:
    """The fold of each image: every fold gets a group of each class, then each group goes where its classes are few."""
    unit, label = (np.unique(names, return_inverse=True)[1] for names in (units, labels))
    images = np.zeros((unit.max() + 1, label.max() + 1))
    np.add.at(images, (unit, label), 1)
    held, fold = np.zeros((count, images.shape[1])), np.full(len(images), -1)
    order = rng.permutation(len(images))

    def give(group: np.int64, number: np.int64) -> None:
        fold[group] = number
        held[number] += images[group]

    for rare in np.argsort((images > 0).sum(0), kind="stable"):
        for number in np.flatnonzero(held[:, rare] == 0):
            left = [group for group in order if fold[group] < 0 and images[group, rare]]
            if left:
                give(left[0], number)
    for group in sorted(order[fold[order] < 0], key=lambda group: -images[group].sum()):
        give(group, np.argmin(held / images.sum(0) @ images[group]))
    return fold[unit]


def _complete(fold: Fold, labels: NDArray[np.str_]) -> bool:
    """Whether both sides hold every class."""
    count = len(np.unique(labels))
    return len(np.unique(labels[fold.train])) == len(np.unique(labels[fold.test])) == count
