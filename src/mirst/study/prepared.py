"""From a spec to images, labels and folds in memory, which all trials share."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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
    folds_of_split,
    given_validation,
    make_folds,
    positive_class,
    prepare_images,
    prepare_lesions,
    read_dataset,
    read_datasets,
    relabel,
    resolve_conflicts,
    split_validation,
    warn_of_split,
    with_boxes,
)
from mirst.data.readers import remark_other_classes
from mirst.defenses import Defense
from mirst.defenses.base import initialise
from mirst.errors import MirstError
from mirst.nn import BoxFusion, LoadedBackbone, build_model, find_weights, load_backbone, reference_mode
from mirst.study.pretraining_origin import origin_remarks, read_origin
from mirst.study.spec import SourceSpec, StudySpec

Shares = tuple[NDArray[np.int64], NDArray[np.int64]]
EVALUATION_BATCH = 64
"""Images per batch where no training depends on it."""


@dataclass(frozen=True)
class Prepared:
    """What all trials of a study share."""

    spec: StudySpec
    audit: Audit
    """Of all images, those among them that the study leaves out."""
    records: list[Record]
    images: PreparedImages | CarriedImages
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    positive: str
    folds: list[Fold]
    weights: LoadedBackbone | None
    """What every training starts from, unless from random weights."""
    extra: int = 0
    """How many of the last records are from `data.extra`."""
    weights_file: str | None = None
    """Where those weights are on this machine, if not where the study says."""
    shares: dict[bytes, Shares] = field(default_factory=dict)
    """Results of `training_shares`, by the bytes of its indices. `prepare` fills it, so that no worker has to import
    scikit-learn for it, which takes a second."""

    @property
    def positive_index(self) -> int:
        return self.classes.index(self.positive)

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


def prepare(spec: StudySpec) -> Prepared:
    """Read, audit, decode and split the data of `spec`.

    Raises:
        MirstError: no data named, unreadable data, no positive class, too little of a class for the
            folds and validation, or a model that cannot be built or cannot take the images.
    """
    notes: list[str] = []
    records, extra_sources = _read(spec, notes.append)
    classes = tuple(spec.data.classes or sorted({record.label for record in records}))
    positive = positive_class(classes, spec.data.positive)
    weights = _try_model(spec, classes, positive)
    records = relabel(records, spec.data.relabel, classes)
    if spec.data.view == "lesion":
        records = with_boxes(records, spec.data.without_box, notes.append)
    if weights is not None:
        origin = read_origin(find_weights(spec.model.weights, spec.model.name))
        studied = [record for record in records if record.source not in extra_sources]  # others are not tested on
        notes += [] if origin is None else origin_remarks(origin, studied)
    audited = audit_records(records, notes, spec.data.audit)
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
    )
    for fold in prepared.folds:
        training_shares(prepared, fold.train)
    return prepared


def split_of(spec: StudySpec, records: Sequence[Record]) -> list[Fold]:
    """The folds of a study, from the labels and groups (or the given split) of its own records."""
    folds = spec.folds
    if folds.kind == "given":
        return folds_of_split(records, folds.count)
    return make_folds(records, folds.count, folds.kind, folds.seed, val_fraction=spec.training.val_fraction)


def _with_extra(fold: Fold, records: Sequence[Record], own: int) -> Fold:
    """The fold with the records after the first `own` in its training part, except for groups of its test part."""
    tested = {records[i].group for i in fold.test}
    extra = [i for i in range(own, len(records)) if records[i].group not in tested]
    return replace(fold, train=np.append(fold.train, np.array(extra, dtype=np.int64)))


def _read(spec: StudySpec, on_remark: Callable[[str], object]) -> tuple[list[Record], set[str]]:
    """The records of the study, those of `data.extra` last, and the names of the extra sources."""
    data = spec.data
    if data.path is None and not data.sources:
        raise MirstError("data.path is not set; set it to the image folder in the YAML, or with --data PATH")
    if data.path is not None:
        own = read_dataset(data.path, data.classes, on_remark=on_remark)
    else:
        own = read_datasets([_read_source(one, on_remark) for one in data.sources], data.classes)
    classes = data.classes or sorted({record.label for record in own})
    extra = [_read_extra(one, classes, on_remark) for one in data.extra]
    if not extra:
        return own, set()
    both = read_datasets([own, *extra], classes)
    sources = {record.source for records in extra for record in records}
    return sorted(both, key=lambda record: record.source in sources), sources


def _read_source(one: SourceSpec, on_remark: Callable[[str], object], fewest: int = 2) -> list[Record]:
    return read_dataset(one.path, labels=one.labels, source=one.source, on_remark=on_remark, fewest=fewest)


def _read_extra(one: SourceSpec, classes: Sequence[str], on_remark: Callable[[str], object]) -> list[Record]:
    """All records; those of other classes are left out when they are merged with the others."""
    records = _read_source(one, on_remark, fewest=1)
    found = {record.label for record in records}
    if found.isdisjoint(classes):
        raise MirstError(
            f"data.extra: {one.path} has no image of the classes {', '.join(classes)}; rename its classes "
            f"({', '.join(sorted(found))}) with labels"
        )
    if other := remark_other_classes(records, classes, "the study"):
        on_remark(f"{one.path}: {other}.")
    return records


def images_in_view(spec: StudySpec, files: Sequence[ImageFile], boxes: Sequence[Box | None]) -> PreparedImages:
    """The images as the models of the study see them; for crops around lesions, with their surroundings."""
    data = spec.data
    if data.view == "whole":
        return prepare_images(files, data.size, data.channels)
    return prepare_lesions(files, boxes, data.size, data.margin, data.channels)


def lesions_in_view(spec: StudySpec, images: PreparedImages | CarriedImages) -> Lesions | None:
    """How crops lie in images with their surroundings; `None` for whole images."""
    if images.features is None:
        return None
    return Lesions(spec.data.size, spec.data.margin, images.features, as_channel=spec.model.box == "fused")


def _try_model(spec: StudySpec, names: Sequence[str], positive: str) -> LoadedBackbone | None:
    """Say before the first trial that the model does not work; what it starts from."""
    weights, classes = None, len(names)
    x = torch.zeros(2, input_channels(spec), spec.data.size, spec.data.size)
    for drop_max in sorted({entry.drop_max for entry in spec.defenses}):
        model, weights = initial_model(spec, classes, drop_max, spec.seeds[0], positive=names.index(positive))
        try:
            with torch.no_grad():
                shape = tuple(model.eval()(x).shape)
        except RuntimeError as error:
            raise MirstError(f"model {spec.model.name} cannot take images of {spec.data.size} px ({error})") from error
        if shape != (2, classes):
            raise MirstError(
                f"model {spec.model.name} gives {shape} for 2 images of {classes} classes; it needs (2, {classes})"
            )
    return weights


def input_channels(spec: StudySpec) -> int:
    """Channels of what the model takes: those of the images, and the box code of a fused one."""
    return spec.data.channels + (spec.model.box == "fused")


def initial_model(
    spec: StudySpec,
    classes: int,
    drop_max: bool,
    seed: int,
    weights_file: str | None = None,
    *,
    positive: int | None = None,
    defense: Defense | None = None,
) -> tuple[nn.Module, LoadedBackbone | None]:
    """The model that training starts from: random by `seed`, its backbone from a file where one is named.

    Args:
        positive: index of the positive class, for `model.box: fused`; `None` gives the pixel network alone.
        defense: the training objective, which may draw random weights of its own.

    Raises:
        MirstError: a model or weights that `build_model` or `load_backbone` refuses, or a fused box with other than two
            classes.
    """
    if spec.model.bound is not None and positive is not None and classes != 2:
        raise MirstError(f"model.box: fused needs two classes, but there are {classes}; name two with data.classes")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = build_model(spec.model.name, spec.data.channels, classes, drop_max)
        if defense is not None and spec.model.weights == "random":
            initialise(defense, model)
    if spec.model.bound is not None and positive is not None:
        model = BoxFusion(model, positive, spec.model.bound)
    if spec.model.weights == "random":
        return model, None
    return model, load_backbone(model, weights_file or spec.model.weights, spec.model.name)


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
