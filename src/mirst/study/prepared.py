"""From a spec to images, labels and folds in memory, which all trials share."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from mirst.data import (
    Audit,
    Augmentation,
    Box,
    CarriedImages,
    Fold,
    ImageFile,
    ImageSet,
    Lesions,
    PreparedImages,
    Record,
    audit_records,
    channels_remark,
    folds_of_split,
    given_validation,
    make_folds,
    positive_class,
    prepare_images,
    prepare_lesions,
    relabel,
    resolve_conflicts,
    resolved_channels,
    scored_index,
    split_validation,
    warn_of_split,
    with_boxes,
)
from mirst.data.given_folds import part_of
from mirst.data.record import TRAIN, VAL
from mirst.data.threads import OnStage, no_stage
from mirst.errors import MirstError
from mirst.nn import LoadedBackbone, find_weights, reference_mode
from mirst.study.initial_model import channels_of, try_model
from mirst.study.pretraining_origin import origin_remarks, read_origin
from mirst.study.reading import held_apart, read_records
from mirst.study.spec import StudySpec

Shares = tuple[NDArray[np.int64], NDArray[np.int64]]
EVALUATION_BATCH = 64
"""Images per batch where no training depends on it."""


@dataclass(frozen=True)
class Prepared:
    """What all trials of a study share."""

    spec: StudySpec
    """With `data.channels` decided."""
    audit: Audit
    """Of all images, those among them that the study leaves out."""
    records: list[Record]
    images: PreparedImages | CarriedImages
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    positive: str | None
    """`None` with more than two classes of which none is special."""
    folds: list[Fold]
    weights: LoadedBackbone | None
    """What every training starts from, unless from random weights."""
    extra: int = 0
    """How many of the last records are from `data.extra`."""
    held_out: tuple[Record, ...] = ()
    """Images of no fold, which `read_held_out` takes as a test set."""
    weights_file: str | None = None
    """Where those weights are on this machine, if not where the study says."""
    shares: dict[bytes, Shares] = field(default_factory=dict)
    """Results of `training_shares`, by the bytes of its indices. `prepare` fills it, so that no worker has to import
    scikit-learn for it, which takes a second."""

    @property
    def positive_index(self) -> int:
        """Of the class whose log-odds are the score: the positive one, or the first if there is none."""
        return scored_index(self.classes, self.positive)

    @property
    def scored(self) -> str:
        """The class at `positive_index`."""
        return self.classes[self.positive_index]

    @property
    def box_features(self) -> NDArray[np.float64] | None:
        """`(N, 2)` log aspect and log area of each record's box, NaN without one; `None` for whole images."""
        return self.images.features

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, labels, groups, prepared pixels, and of the given split if the folds are it."""
        digest = hashlib.sha256(self.images.pixels.data)
        for record in self.records:
            digest.update(json.dumps([record.name, record.label, record.group, record.source]).encode())
        if self.box_features is not None:
            digest.update(self.box_features.data)
        if self.extra:
            digest.update(str(self.extra).encode())
        if self.spec.folds.kind == "given":
            digest.update(json.dumps([record.split for record in self.records]).encode())
        return digest.hexdigest()

    def records_at(self, indices: NDArray[np.int64]) -> list[Record]:
        return [self.records[i] for i in indices]

    def subset(self, indices: NDArray[np.int64], augment: Augmentation | None = None) -> ImageSet:
        lesions = lesions_in_view(self.spec, self.images)
        lesions = lesions and lesions.at(indices)
        return ImageSet(self.images.pixels[indices], self.labels[indices], augment, lesions)


@contextmanager
def conditions(spec: StudySpec) -> Iterator[None]:
    """Torch on as many CPU threads as a trial has, so that numbers repeat bit for bit, and speed-ups on or off."""
    before = torch.get_num_threads()
    torch.set_num_threads(spec.training.threads)
    try:
        with reference_mode(not spec.training.fast):
            yield
    finally:
        torch.set_num_threads(before)


def prepare(spec: StudySpec, on_stage: OnStage = no_stage) -> Prepared:
    """Read, audit, decode and split the data of `spec`.

    Raises:
        MirstError: no data named, unreadable data, no positive class, too little of a class for the
            folds and validation, or a model that cannot be built or cannot take the images.
    """
    notes: list[str] = []
    records, extra_sources = read_records(spec, notes.append)
    classes = tuple(spec.data.classes or sorted({record.label for record in records}))
    positive = positive_class(classes, spec.data.positive)
    records = relabel(records, spec.data.relabel, classes)
    records, held_out = held_apart(records, spec.folds, extra_sources)
    if held_out:
        notes.append(f"{len(held_out)} images of the split {spec.folds.held_out} are held out of all folds.")
    if spec.data.view == "lesion":
        records = with_boxes(records, spec.data.without_box, notes.append)
    audited = audit_records(records, rule=spec.data.audit, on_stage=on_stage)
    colour = audited.found.colour
    notes += channels_remark(spec.data.channels, colour, len(records))
    spec = spec.with_channels(resolved_channels(spec.data.channels, colour, len(records)))
    weights = try_model(spec, classes, scored_index(classes, positive))
    if weights is not None:
        origin = read_origin(find_weights(spec.model.weights, spec.model.name, spec.model.options))
        studied = [record for record in records if record.source not in extra_sources]  # others are not tested on
        notes += [] if origin is None else origin_remarks(origin, studied)
    audited = replace(audited, notes=tuple(notes))
    if spec.folds.kind == "given":
        audited = warn_of_split(audited)
    records = resolve_conflicts(audited, spec.data.conflicts)
    own = [record for record in records if record.source not in extra_sources]
    for name in set(classes) - {record.label for record in own}:
        raise MirstError(
            f"data.relabel, data.conflicts and data.without_box leave no image of class {name}; leave it out of "
            "data.classes"
        )
    for source in extra_sources - {record.source for record in records}:
        raise MirstError(
            f"data.relabel, data.conflicts and data.without_box leave no image of {source}; leave it out of data.extra"
        )
    prepared = Prepared(
        spec=spec,
        audit=audited,
        records=records,
        images=images_in_view(spec, [record.file for record in records], [record.box for record in records]),
        labels=np.array([classes.index(record.label) for record in records], dtype=np.int64),
        classes=classes,
        positive=positive,
        folds=[_with_extra(fold, records, len(own)) for fold in split_of(spec, own)],
        weights=weights,
        extra=len(records) - len(own),
        held_out=tuple(held_out),
    )
    for fold in prepared.folds:
        training_shares(prepared, fold.train)
    return prepared


def split_of(spec: StudySpec, records: Sequence[Record]) -> list[Fold]:
    """The folds of a study, from the labels and groups (or the given split) of its own records."""
    folds = spec.folds
    if folds.kind == "given":
        if folds.held_out is not None and {part_of(record) for record in records} <= {TRAIN, VAL}:
            raise MirstError(
                f"folds.kind is given, but without the held-out split {folds.held_out} there are no folds; set "
                "folds.kind=group for folds of the other images, or leave out folds.held_out"
            )
        return folds_of_split(records, folds.count)
    return make_folds(records, folds.count, folds.kind, folds.seed, val_fraction=spec.training.val_fraction)


def _with_extra(fold: Fold, records: Sequence[Record], own: int) -> Fold:
    """The fold with the records after the first `own` in its training part, except for groups of its test part."""
    tested = {records[i].group for i in fold.test}
    extra = [i for i in range(own, len(records)) if records[i].group not in tested]
    return replace(fold, train=np.append(fold.train, np.array(extra, dtype=np.int64)))


def images_in_view(spec: StudySpec, files: Sequence[ImageFile], boxes: Sequence[Box | None]) -> PreparedImages:
    """The images as the models of the study see them; for crops around lesions, with their surroundings."""
    data = spec.data
    if data.view == "whole":
        return prepare_images(files, data.size, channels_of(spec))
    return prepare_lesions(files, boxes, data.size, data.margin, channels_of(spec))


def lesions_in_view(spec: StudySpec, images: PreparedImages | CarriedImages) -> Lesions | None:
    """How crops lie in images with their surroundings; `None` for whole images."""
    if images.features is None:
        return None
    return Lesions(spec.data.size, spec.data.margin, images.features, as_channel=spec.model.box == "fused")


def training_shares(prepared: Prepared, indices: NDArray[np.int64]) -> Shares:
    """Of the records at `indices`: those to train on, and those held out for validation, if any.

    Records of `data.extra` are never held out, and those of a group of the validation part are left out.
    """
    key = indices.tobytes()
    if key not in prepared.shares:
        prepared.shares[key] = _divided(prepared, indices)
    return prepared.shares[key]


def _divided(prepared: Prepared, indices: NDArray[np.int64]) -> Shares:
    spec, records, fraction = prepared.spec, prepared.records, prepared.spec.training.val_fraction
    is_own = indices < len(records) - prepared.extra
    given = given_validation(records, indices[is_own]) if spec.folds.kind == "given" else indices[:0]
    if len(given):
        split = Fold(np.setdiff1d(indices[is_own], given), given)
    elif fraction == 0:
        return indices, indices[:0]
    else:
        kind = "group" if spec.folds.kind == "given" else spec.folds.kind
        split = split_validation(records, indices[is_own], fraction, kind, spec.folds.seed)
    held_out = {records[i].group for i in split.test}
    extra = [i for i in indices[~is_own] if records[i].group not in held_out]
    return np.append(split.train, np.array(extra, dtype=np.int64)), split.test
