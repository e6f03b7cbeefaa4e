"""Another data set as the models of a study take it, without the images that they were trained on."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from mirst.data import Audit, Fold, Record, audit_records, read_dataset, select_classes, with_boxes
from mirst.data.readers import remark_other_classes
from mirst.errors import MirstError
from mirst.evaluation.value_range import range_remark
from mirst.nn import ModelCard, find_weights
from mirst.study.prepared import Prepared, images_in_view
from mirst.study.pretraining_origin import pretrained_on, read_origin
from mirst.study.spec_sections import SourceSpec

HELD_OUT = "held-out"
"""The name of the set that `folds.held_out` keeps."""
PRETRAINED = "the backbone of the study was pretrained on it"
SAME_PATIENT = "of the same patient or case as an image of the folds"
SAME_GROUP = "of the same patient or case as an image that is left out"


@dataclass(frozen=True)
class ExternalSet:
    """A data set that a study is validated on."""

    name: str
    """Of its source, and of its folder."""
    prepared: Prepared
    """The study with the images of this set as the test part of every fold."""
    left_out: dict[str, str]
    """Why images are left out, by name."""
    notes: tuple[str, ...]
    """Sentences on what was read."""
    data: str
    """Where it is, or which split it is."""
    labels: dict[str, str | None] | None = None
    """New names of its classes."""


def read_external(study: Prepared, source: SourceSpec, card: ModelCard) -> ExternalSet:
    """The images of a data set that no model of the study has seen.

    An image is left out if it is a copy of an image of the study (`audit_records`) or if the study's backbone
    was pretrained on it. The other images of its patient or case are left out too. Images without a box are treated as
    the study treats them.

    Args:
        card: of one of the models, for the range of pixel values.

    Raises:
        MirstError: a data set that cannot be read, lacks a class of the study, has several names or one that is no name
            of a folder; a prepared folder; or no image of a class is left.
    """
    notes: list[str] = []
    found = _read(study, source, notes.append)
    records = [_with_own_group(replace(record, value_range=card.value_range)) for record in found]
    external = _external(study, _name(found), records, notes, str(source.path))
    kept = external.prepared.records
    if unfit := [f"{record.name} {remark}" for record in kept if (remark := range_remark(record.file, card))]:
        more = f"; {len(unfit) - 1} more images do not fit either." if unfit[1:] else "."
        notes.append(f"WARNING: {unfit[0]}{more}")
    return replace(external, notes=tuple(notes), labels=source.labels)


def read_held_out(study: Prepared) -> ExternalSet:
    """The images that `folds.held_out` keeps as a test set.

    An image is left out if it or another image of its patient or case is a copy of an image of the folds, or
    if the folds have images of its patient or case.

    Raises:
        MirstError: no image of a class is left.
    """
    records = [replace(record, value_range=study.audit.found.value_range) for record in study.held_out]
    return _external(study, HELD_OUT, records, [], f"the split {study.spec.folds.held_out}")


def _external(study: Prepared, name: str, records: list[Record], notes: list[str], data: str) -> ExternalSet:
    """The set of those records that no model of the study has seen."""
    if study.spec.data.view == "lesion":
        records = with_boxes(records, study.spec.data.without_box, notes.append)
    joint = audit_records([*study.records, *records], rule=replace(study.spec.data.audit, join="copies"))
    for reason in joint.found.unreadable.values():
        raise MirstError(reason)
    left_out = _left_out(study, joint)
    kept = [record for record in joint.grouped()[len(study.records) :] if record.name not in left_out]
    for label in study.classes:
        if not any(record.label == label for record in kept):
            why = ", ".join(f"{count} ({reason})" for reason, count in Counter(map(_kind, left_out.values())).items())
            raise MirstError(
                f"no image of class {label} in {data} is external to the study; images left out: {why or 'none'}. Give "
                "other images"
            )
    return ExternalSet(name, _as_test_part(study, kept), left_out, tuple(notes), data)


def _read(study: Prepared, source: SourceSpec, on_remark: Callable[[str], object]) -> list[Record]:
    """The images of the study's classes."""
    found = read_dataset(source.path, labels=source.labels, source=source.source, on_remark=on_remark, fewest=1)
    labels = {record.label for record in found}
    for label in study.classes:
        if label not in labels:
            raise MirstError(
                f"{source.path} has no class {label}, which the study has; it has {', '.join(sorted(labels))}. Rename "
                f"its classes with --labels '{{theirs: {label}, ...}}'"
            )
    for record in (found[0], study.records[0]):
        if record.path.suffix == ".npy":
            raise MirstError(
                f"{record.path.parent} is a prepared folder, whose images cannot be compared with those of another "
                "data set; use the original images for both the study and its validation"
            )
    if other := remark_other_classes(found, study.classes, "the study"):
        on_remark(f"{other}.")
    return select_classes(found, study.classes, source.path)


def _name(records: Sequence[Record]) -> str:
    names = sorted({record.source for record in records})
    if len(names) > 1:
        raise MirstError(f"the data set has several names ({', '.join(names)}); give it one with --source NAME")
    if names[0] != PurePath(names[0]).name or names[0].startswith(".") or "\\" in names[0]:
        raise MirstError(
            f"the name {names[0]!r} of the data set cannot be that of a folder; give it one with --source NAME"
        )
    return names[0]


def _with_own_group(record: Record) -> Record:
    """A group of the study may have the same name."""
    return replace(record, group=record.group and f"{record.source}-{record.group}")


def _kind(reason: str) -> str:
    return reason if reason in (PRETRAINED, SAME_PATIENT, SAME_GROUP) else "copies of images of the study"


def _left_out(study: Prepared, joint: Audit) -> dict[str, str]:
    """Why images after those of the study are left out, by name."""
    own = len(study.records)
    records, groups = joint.records[own:], joint.groups[own:]
    reasons = {
        pair.second: f"copy of {joint.records[pair.first].name} of the study"
        for pair in joint.copies
        if pair.first < own <= pair.second
    }
    spec = study.spec.model
    origin = None if spec.weights == "random" else read_origin(find_weights(spec.weights, spec.name, spec.options))
    known = {record.name for record in (pretrained_on(origin, records) if origin else ())}
    seen = set(joint.groups[:own]) | {
        group for record, group in zip(records, groups, strict=True) if record.name in known
    }
    named = {record.group for record in joint.records[:own]} - {None}
    found = {}
    for number, (record, group) in enumerate(zip(records, groups, strict=True), start=own):
        if number in reasons:
            found[record.name] = reasons[number]
        elif record.name in known:
            found[record.name] = PRETRAINED
        elif group in seen:
            found[record.name] = SAME_PATIENT if record.group in named else SAME_GROUP
    return found


def _as_test_part(study: Prepared, records: list[Record]) -> Prepared:
    nothing, everything = np.arange(0), np.arange(len(records))
    return replace(
        study,
        records=records,
        images=images_in_view(study.spec, [record.file for record in records], [record.box for record in records]),
        labels=np.array([study.classes.index(record.label) for record in records], dtype=np.int64),
        folds=[Fold(nothing, everything)] * len(study.folds),
        extra=0,
        shares={},
    )
