"""The records of a study, and which of them are held out of its folds."""

from collections.abc import Callable, Sequence

from mirst.data import Record, read_dataset, read_datasets
from mirst.data.readers import remark_other_classes
from mirst.data.record import natural
from mirst.errors import MirstError
from mirst.study.spec import StudySpec
from mirst.study.spec_sections import FoldSpec, SourceSpec


def read_records(spec: StudySpec, on_remark: Callable[[str], object]) -> tuple[list[Record], set[str]]:
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


def held_apart(
    records: Sequence[Record], folds: FoldSpec, extra_sources: set[str]
) -> tuple[list[Record], list[Record]]:
    """The records of the folds with those of `data.extra`, and those that `folds.held_out` keeps as a test set.

    Raises:
        MirstError: no image has that split, or all images have it.
    """
    if folds.held_out is None:
        return list(records), []
    own = [record for record in records if record.source not in extra_sources]
    held_out = [record for record in own if record.split == folds.held_out]
    if not held_out:
        splits = ", ".join(sorted({record.split for record in own if record.split is not None}, key=natural))
        raise MirstError(
            f"folds.held_out is {folds.held_out}, but no image has this split; the data set has {splits or 'no splits'}"
        )
    if len(held_out) == len(own):
        raise MirstError(
            f"folds.held_out is {folds.held_out}, but all images have this split; none is left to train on"
        )
    names = {(record.source, record.name) for record in held_out}
    return [record for record in records if (record.source, record.name) not in names], held_out
