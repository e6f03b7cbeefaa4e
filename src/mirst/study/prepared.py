"""From a spec to images, labels and folds in memory."""

from collections.abc import Callable

import numpy as np
import torch

from mirst.data import (
    Record,
    audit_records,
    make_folds,
    positive_class,
    prepare_images,
    read_dataset,
    read_datasets,
    relabel,
    resolve_conflicts,
)
from mirst.errors import MirstError
from mirst.nn import LoadedBackbone
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared, initial_model


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
    weights = _try_model(spec, len(classes))
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
        raise MirstError("data.path is not set; name the image folder in the YAML or with --data PATH")
    sources = [
        read_dataset(one.path, labels=one.labels, source=one.source, on_remark=on_remark) for one in spec.data.sources
    ]
    return read_datasets(sources, spec.data.classes)


def _try_model(spec: StudySpec, classes: int) -> LoadedBackbone | None:
    """Say before the first trial that the model does not work; what it starts from."""
    weights = None
    x = torch.zeros(2, spec.data.channels, spec.data.size, spec.data.size)
    for drop_max in sorted({entry.drop_max for entry in spec.defenses}):
        model, weights = initial_model(spec, classes, drop_max, spec.seeds[0])
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
