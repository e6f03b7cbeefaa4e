"""From a spec to images, labels and folds in memory, which all trials share."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mirst.data import (
    Audit,
    CarriedImages,
    Fold,
    ImageSet,
    PreparedImages,
    Record,
    audit_records,
    make_folds,
    positive_class,
    prepare_images,
    read_dataset,
    read_datasets,
    relabel,
    resolve_conflicts,
    split_validation,
)
from mirst.errors import MirstError
from mirst.nn import BoxFusion, LoadedBackbone, build_model, load_backbone, reference_mode
from mirst.study.spec import StudySpec

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
    weights_file: str | None = None
    """Where those weights are on this machine, if not where the study says."""
    box_features: NDArray[np.float64] | None = None
    """`(N, 2)` log aspect and log area of each record's box, NaN where it is unknown; `None`: no boxes were read."""

    @property
    def positive_index(self) -> int:
        return self.classes.index(self.positive)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, labels, groups and prepared pixels."""
        digest = hashlib.sha256(self.images.pixels.data)
        for record in self.records:
            digest.update(json.dumps([record.name, record.label, record.group, record.source]).encode())
        return digest.hexdigest()

    def records_at(self, indices: NDArray[np.int64]) -> list[Record]:
        return [self.records[i] for i in indices]

    def subset(self, indices: NDArray[np.int64], augment: bool = False) -> ImageSet:
        return ImageSet(self.images.pixels[indices], self.labels[indices], augment)


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
    records = _read(spec, notes.append)
    classes = tuple(spec.data.classes or sorted({record.label for record in records}))
    positive = positive_class(classes, spec.data.positive)
    weights = _try_model(spec, classes, positive)
    audited = audit_records(relabel(records, spec.data.relabel, classes), notes)
    records = resolve_conflicts(audited, spec.data.conflicts)
    for name in set(classes) - {record.label for record in records}:
        raise MirstError(
            f"data.relabel and data.conflicts leave no image of class {name}; leave it out of data.classes"
        )
    images = prepare_images([record.file for record in records], spec.data.size, spec.data.channels)
    folds = make_folds(
        records, spec.folds.count, spec.folds.kind, spec.folds.seed, val_fraction=spec.training.val_fraction
    )
    return Prepared(
        spec=spec,
        audit=audited,
        records=records,
        images=images,
        labels=np.array([classes.index(record.label) for record in records], dtype=np.int64),
        classes=classes,
        positive=positive,
        folds=folds,
        weights=weights,
    )


def _read(spec: StudySpec, on_remark: Callable[[str], object]) -> list[Record]:
    if spec.data.path is not None:
        return read_dataset(spec.data.path, spec.data.classes, on_remark=on_remark)
    if not spec.data.sources:
        raise MirstError("data.path is not set; set it to the image folder in the YAML, or with --data PATH")
    sources = [
        read_dataset(one.path, labels=one.labels, source=one.source, on_remark=on_remark) for one in spec.data.sources
    ]
    return read_datasets(sources, spec.data.classes)


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
) -> tuple[nn.Module, LoadedBackbone | None]:
    """The model that training starts from: random by `seed`, its backbone from a file where one is named.

    Args:
        positive: index of the positive class, for `model.box: fused`; `None` gives the pixel network alone.

    Raises:
        MirstError: a model or weights that `build_model` or `load_backbone` refuses, or a fused box with other than two
            classes.
    """
    if spec.model.bound is not None and positive is not None and classes != 2:
        raise MirstError(f"model.box: fused needs two classes, but there are {classes}; name two with data.classes")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = build_model(spec.model.name, spec.data.channels, classes, drop_max)
    if spec.model.bound is not None and positive is not None:
        model = BoxFusion(model, positive, spec.model.bound)
    if spec.model.weights == "random":
        return model, None
    return model, load_backbone(model, weights_file or spec.model.weights, spec.model.name)


def training_shares(prepared: Prepared, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the records at `indices`: those to train on, and those held out for validation, if any."""
    spec, fraction = prepared.spec, prepared.spec.training.val_fraction
    if fraction == 0:
        return indices, indices[:0]
    split = split_validation(prepared.records, indices, fraction, spec.folds.kind, spec.folds.seed)
    return split.train, split.test
