"""Folds that a data set gives: published ones, those of earlier work, or fixed training, validation and test parts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mirst.data.audit import Audit
from mirst.data.folds import Fold, Indices
from mirst.data.readers.skipped_files import listed
from mirst.data.record import PARTS, TEST, TRAIN, VAL, Record, natural
from mirst.errors import MirstError

SPLIT_LEAK = "GIVEN SPLIT LEAKS"
"""How the warning of a leak in a given split begins."""


def folds_of_split(records: Sequence[Record], count: int) -> list[Fold]:
    """The folds of `Record.split`.

    Where it names the parts train and test, with or without val, there is one fold; the images of val are in its
    training part, and `given_validation` finds them. Otherwise each name is a fold, whose images are its test part.

    Args:
        count: how many folds there must be.

    Raises:
        MirstError: an image without a split, another number of folds, or a class that is missing in a part.

    >>> from pathlib import Path
    >>> records = [Record(Path(f"{i}.png"), "ab"[i % 2], None, "clinic", split=str(i // 2)) for i in range(6)]
    >>> [fold.test.tolist() for fold in folds_of_split(records, 3)]
    [[0, 1], [2, 3], [4, 5]]
    """
    missing = [record.name for record in records if record.split is None]
    if missing:
        raise MirstError(
            f"folds.kind is given, but {len(missing)} of {len(records)} images have no split, {missing[0]} among them; "
            "fill the column split or fold of the manifest, or set folds.kind=group"
        )
    parts = np.array([part_of(record) or str(record.split) for record in records])
    names = sorted(set(parts), key=natural)
    tested = [TEST] if _are_parts(records) else names
    if len(tested) != count:
        raise MirstError(
            f"folds.count is {count}, but the data set gives {len(tested)} ({', '.join(names)}); set "
            f"folds.count={len(tested)}"
        )
    folds = [Fold(np.flatnonzero(parts != name), np.flatnonzero(parts == name)) for name in tested]
    for name, fold in zip(tested, folds, strict=True):
        _require_classes(records, fold.test, f"the test part of the given fold {name}")
        trained = np.setdiff1d(fold.train, given_validation(records, fold.train))
        _require_classes(records, trained, f"the training part of the given fold {name}")
    return folds


def given_validation(records: Sequence[Record], indices: Indices) -> Indices:
    """Those of the indices whose records a given split holds out for validation."""
    return indices[[part_of(records[i]) == VAL for i in indices]]


def part_of(record: Record) -> str | None:
    """`train`, `val` or `test`, if the split of the record names one."""
    return PARTS.get((record.split or "").lower())


def warn_of_split(audited: Audit) -> Audit:
    """The audit, with a note if groups have images in several parts of the given split."""
    parts: dict[str, set[str]] = {}
    for record, group in zip(audited.records, audited.groups, strict=True):
        if record.split is not None:
            parts.setdefault(group, set()).add(part_of(record) or record.split)
    torn = {group for group, found in parts.items() if len(found) > 1}
    if not torn:
        return audited
    images = [record.name for record, group in zip(audited.records, audited.groups, strict=True) if group in torn]
    several = "1 group has" if len(torn) == 1 else f"{len(torn)} groups have"
    named = listed(images)
    note = (
        f"{SPLIT_LEAK}: {several} images in several parts of the given split ({len(images)} images of the same "
        f"patients or cases, or copies of each other: {named}). Its test figures are too high; folds.kind=group "
        "keeps groups together."
    )
    return replace(audited, notes=(note, *audited.notes))


def _are_parts(records: Sequence[Record]) -> bool:
    found = {part_of(record) for record in records}
    return {TRAIN, TEST} <= found <= {TRAIN, VAL, TEST}


def _require_classes(records: Sequence[Record], indices: Indices, what: str) -> None:
    lacking = {record.label for record in records} - {records[i].label for i in indices}
    if lacking:
        raise MirstError(f"{what} has no image of class {min(lacking)}; set folds.kind=group, or correct the split")
