"""Cross-validation folds that do not split groups, with every class in every part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mirst.data.audit import Audit
from mirst.data.labels_and_groups import assign_groups
from mirst.data.record import Record
from mirst.errors import MirstError

Indices = NDArray[np.int64]
Splits = list[tuple[Indices, Indices]]
FoldKind = Literal["group", "random"]
FOLDS = 5
"""The default number of folds of a study."""
VAL_FRACTION = 0.15
"""The default share of a training part that is set aside for validation."""
DRAWS = 50
"""How many times folds are drawn before an error is raised."""


@dataclass(frozen=True)
class Fold:
    """Indices into the records.

    >>> from pathlib import Path
    >>> records = [Record(Path(f"{i}.png"), "ab"[i % 2], str(i), "clinic") for i in range(8)]
    >>> fold = make_folds(records, 2)[0]
    >>> len(fold.train), len(fold.test), set(fold.train) & set(fold.test)
    (4, 4, set())
    """

    train: Indices
    test: Indices


def make_folds(
    records: Sequence[Record],
    count: int = FOLDS,
    kind: FoldKind = "group",
    seed: int = 0,
    val_fraction: float = 0.0,
) -> list[Fold]:
    """`count` stratified folds, the same for the same records and seed.

    Every training and test part contains every class. Folds that miss one are drawn again, from the same seed.

    Args:
        kind: "group" keeps each group on one side (records without one go through `assign_groups`);
            "random" splits image by image, as the paper does, so that copies leak from training
            into test.
        val_fraction: share of every training part that `split_validation` must be able to set aside; 0 for none.

    Raises:
        MirstError: fewer than two folds, a class with fewer images or groups than folds and validation
            need, or groups that cannot be shared out such that no part misses a class.
    """
    if count < 2:
        raise MirstError(f"folds.count is {count}; cross-validation needs at least 2")
    if kind == "group" and any(record.group is None for record in records):
        records = assign_groups(records)
    labels = np.array([record.label for record in records])
    units = _units(records, kind)
    _require_enough(labels, units, count, kind, val_fraction)
    for splits in _draws(labels, units, count, kind, seed):
        if all(_is_whole(labels, split) for split in splits):
            folds = [Fold(train, test) for train, test in splits]
            if val_fraction == 0 or all(_can_validate(records, fold, val_fraction, kind, seed) for fold in folds):
                return folds
    raise MirstError(
        f"none of {DRAWS} draws of {count} folds has every class in every training, validation and test part, since "
        "groups contain images of several classes; lower folds.count or add images"
    )


def split_validation(
    records: Sequence[Record], indices: Indices, fraction: float, kind: FoldKind = "group", seed: int = 0
) -> Fold:
    """Split the records at `indices` into training (`.train`) and validation (`.test`) indices.

    The validation part is stratified and, for "group", contains whole groups. Both parts contain every class.

    Raises:
        MirstError: a class has fewer than two groups (images), or no such split is found.
    """
    labels = np.array([records[i].label for i in indices])
    units = _units([records[i] for i in indices], kind)
    rarest = min(_unit_counts(labels, units).values())
    count = min(max(2, round(1 / fraction)), rarest)
    if rarest >= 2:
        for splits in _draws(labels, units, count, kind, seed):
            for train, val in splits:
                if _is_whole(labels, (train, val)):
                    return Fold(indices[train], indices[val])
    raise MirstError("a class is too small to hold out validation images; set training.val_fraction=0")


def warn_of_folds(audited: Audit, count: int = FOLDS, val_fraction: float = VAL_FRACTION) -> Audit:
    """The audit, with a note for each data set that is too small for `count` folds with validation images."""
    warnings = []
    for source in sorted({record.source for record in audited.records}):
        records = [record for record in audited.grouped() if record.source == source]
        try:
            make_folds(records, count, val_fraction=val_fraction)
        except MirstError as error:
            warnings.append(f"WARNING: mirst run would reject {source} with {count} folds: {error}.")
    return replace(audited, notes=(*warnings, *audited.notes))


def _require_enough(
    labels: NDArray[np.str_], units: NDArray[np.str_], count: int, kind: FoldKind, val_fraction: float
) -> None:
    what = "groups" if kind == "group" else "images"
    advice = (
        ", or, if mirst data audit shows that different images were joined, set data.audit.join=named"
        if len(np.unique(units)) < len(units)
        else ""
    )
    for label, have in _unit_counts(labels, units).items():
        if have < count:
            raise MirstError(
                f"class {label} has {have} {what}, fewer than the {count} folds; lower folds.count or add images"
                + advice
            )
        if val_fraction and have < 4 and count == 2:  # of three folds, two are left to share out
            raise MirstError(
                f"class {label} has {have} {what}, fewer than the 4 that 2 folds with validation images need; set "
                "training.val_fraction=0 or add images"
            )


def _unit_counts(labels: NDArray[np.str_], units: NDArray[np.str_]) -> dict[str, int]:
    return {str(label): len(np.unique(units[labels == label])) for label in np.unique(labels)}


def _units(records: Sequence[Record], kind: FoldKind) -> NDArray[np.str_]:
    """The group of each record, or its number: units that are not split."""
    return np.array([str(record.group) if kind == "group" else str(i) for i, record in enumerate(records)])


def _is_whole(labels: NDArray[np.str_], split: tuple[Indices, Indices]) -> bool:
    """Whether both parts contain every class."""
    return all(len(np.unique(labels[part])) == len(np.unique(labels)) for part in split)


def _can_validate(records: Sequence[Record], fold: Fold, fraction: float, kind: FoldKind, seed: int) -> bool:
    try:
        split_validation(records, fold.train, fraction, kind, seed)
    except MirstError:
        return False
    return True


def _draws(
    labels: NDArray[np.str_], units: NDArray[np.str_], count: int, kind: FoldKind, seed: int
) -> Iterator[Splits]:
    """`DRAWS` ways to split, the same for the same seed: scikit-learn's, then random ones that favour rare classes."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second

    if kind == "random":
        yield list(StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels))
        return
    yield list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(labels, labels, units))
    classes, members = np.unique(labels, return_inverse=True)
    names, groups = np.unique(units, return_inverse=True)
    images = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(images, (groups, members), 1)
    for draw in range(1, DRAWS):
        fold_of = _shared_out(images, count, np.random.default_rng((seed, draw)))[groups]
        yield [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(count)]


def _shared_out(images: Indices, count: int, rng: np.random.Generator) -> Indices:
    """A fold for each group, by its images per class `(groups, classes)`.

    Groups of the rarest classes come first, in random order. Each goes where most of its classes are missing,
    and among such folds to that with the smallest share of these classes.
    """
    rarity = (images > 0).sum(axis=0)
    rarest_class = np.where(images > 0, rarity, len(images) + 1).min(axis=1)
    order = sorted(rng.permutation(len(images)), key=lambda group: rarest_class[group])
    held = np.zeros((count, images.shape[1]))
    folds = np.zeros(len(images), dtype=np.int64)
    for group in order:
        own = images[group] > 0
        missing = (held[:, own] == 0) @ (1 / rarity[own])
        share = (held[:, own] / images.sum(axis=0)[own]).sum(axis=1)
        folds[group] = np.lexsort((share, -missing))[0]
        held[folds[group]] += images[group]
    return folds
