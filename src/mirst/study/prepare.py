"""From a spec to images, labels and folds in memory."""

import numpy as np

from mirst.data import assign_groups, load_images, make_folds, positive_class, read_dataset, relative_names
from mirst.errors import MirstError
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared


def prepare(spec: StudySpec) -> Prepared:
    """Read, decode, group and split the data of `spec`.

    Raises:
        MirstError: no data named, unreadable data, no positive class, or too little of a class for
            the folds.
    """
    if spec.data.path is None:
        raise MirstError("data.path is not set; name the image folder in the YAML or with --data PATH")
    records = assign_groups(read_dataset(spec.data.path, spec.data.classes))
    classes = tuple(spec.data.classes or sorted({record.label for record in records}))
    positive = positive_class(classes, spec.data.positive)
    folds = make_folds(records, spec.folds.count, spec.folds.kind, spec.folds.seed)
    return Prepared(
        spec=spec,
        records=records,
        names=relative_names(records, spec.data.path),
        images=load_images([record.path for record in records], spec.data.size, spec.data.channels),
        labels=np.array([classes.index(record.label) for record in records], dtype=np.int64),
        classes=classes,
        positive=positive,
        folds=folds,
    )
