"""Data sets as records. `READERS` are asked in turn whether they know a path."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mirst.data.readers import breast, busbra, busi, class_folders, manifest, medmnist, prepared
from mirst.data.readers.skipped_files import folder_contents, left_out
from mirst.data.record import Record, natural
from mirst.errors import MirstError, plain
from mirst.files import harmless
from mirst.untrusted.lfs_pointers import require_content

MAX_LABEL = 200
"""Characters of the name of a class."""


class Reader(NamedTuple):
    recognises: Callable[[Path], bool]
    read: Callable[[Path], list[Record]]
    contents: Callable[[Path], Iterable[Path]] = lambda _: ()
    """The files of the data set, from which images are chosen by the reader."""


READERS: dict[str, Reader] = {
    "prepared": Reader(prepared.recognises, prepared.read),
    "manifest": Reader(manifest.recognises, manifest.read, manifest.contents),
    "medmnist": Reader(medmnist.recognises, medmnist.read),
    "busbra": Reader(busbra.recognises, busbra.read, busbra.contents),
    "breast": Reader(breast.recognises, breast.read, breast.contents),
    "busi": Reader(busi.recognises, busi.read, folder_contents),
    "class folders": Reader(class_folders.recognises, class_folders.read, folder_contents),
}
"""Readers by name, in the order in which they are asked whether they recognise a path."""


def read_dataset(
    path: str | Path,
    classes: Sequence[str] | None = None,
    labels: Mapping[str, str | None] | None = None,
    source: str | None = None,
    on_remark: Callable[[str], object] | None = None,
    fewest: int = 2,
) -> list[Record]:
    """The records of a data set, sorted by class and name.

    Recognised are BUSI in its published layout, BUS-BRA in its (`Case` is the group), BrEaST in its
    (labels in a spreadsheet or CSV, the case is the group), MedMNIST `.npz` files, what
    `mirst data prepare` wrote, a CSV manifest with the columns `path,label` and, where known,
    `group,source`, and plain class folders. The patient is the group of DICOM files. Image files are
    known by their content, and masks by their names; masks are not images.

    Args:
        classes: keep these only; `None` keeps all.
        labels: new names of the classes, every one of them mentioned; those mapped to `None` are
            left out.
        source: name of the data set, instead of the reader's.
        on_remark: called with sentences about files that were ignored and masks that were left out.
        fewest: the number of classes that it must have.

    Raises:
        MirstError: not a data set, a class without images, fewer than `fewest` classes, two
            classes that differ in letter case only, a class of `classes` or `labels` that is not there, a
            label that `labels` does not contain, a listed image that is missing, a class whose name no output can
            contain, two images of one name.
    """
    root = Path(path)
    _require_readable(root)
    try:
        reader = next((reader for reader in READERS.values() if reader.recognises(root)), None)
        if reader is None:
            raise MirstError(_unknown(root))
        records = reader.read(root)
        if on_remark is not None:
            for remark in left_out(root if root.is_dir() else root.parent, reader.contents(root), records):
                on_remark(remark)
    except OSError as error:
        raise MirstError(f"cannot read {error.filename or root} ({error.strerror or error})") from error
    if source is not None:
        records = [replace(record, source=source) for record in records]
    if labels is not None:
        records = _relabelled(records, labels, root)
    return _with_safe_names(select_classes(records, classes, root, fewest), root)


def _require_readable(root: Path) -> None:
    if not root.exists():
        raise MirstError(f"{root.resolve()} does not exist; give the path of the data set")
    require_content(root)


def _unknown(root: Path) -> str:
    if root.is_file():
        return (
            f"{root} is neither a .csv nor a .npz file; give a folder with a folder per class, a CSV (which Excel can "
            "save) or a MedMNIST file"
        )
    return (
        f"{root} has no class folders and is not a known data set; put the images of each class into a folder "
        "of its name, or write a CSV with path,label"
    )


def read_datasets(sources: Sequence[list[Record]], classes: Sequence[str] | None = None) -> list[Record]:
    """Several data sets as one.

    Raises:
        MirstError: two sources of one name, or fewer than two classes.
    """
    names = [{record.source for record in records} for records in sources]
    for number, own in enumerate(names):
        twice = own & set().union(*names[:number])
        if twice:
            raise MirstError(
                f"two data sets have the name {', '.join(twice)}; give one of them another name with source"
            )
    merged = [record for records in sources for record in records]
    return select_classes(merged, classes, Path("the merged data"))


def _relabelled(records: list[Record], labels: Mapping[str, str | None], root: Path) -> list[Record]:
    found = {record.label for record in records}
    for label in found - labels.keys():
        raise MirstError(f"labels does not contain {label} of {root}; map it to a class, or to null to leave it out")
    for label in labels.keys() - found:
        raise MirstError(f"labels: {root} has no class {label}; it has {', '.join(sorted(found))}")
    if not any(labels.values()):
        raise MirstError(f"labels leaves no image of {root}; map one of its classes to a name")
    mapped = [(record, labels[record.label]) for record in records]
    return [replace(record, label=label) for record, label in mapped if label is not None]


def select_classes(records: list[Record], classes: Sequence[str] | None, root: Path, fewest: int = 2) -> list[Record]:
    """The records of these classes, sorted by source, class and name; `None` keeps all.

    Args:
        root: the name of the data set in errors.

    Raises:
        MirstError: a class without images, fewer than `fewest` classes, or two that differ in letter case only.
    """
    found = {record.label for record in records}
    _require_distinct(found, root)
    if classes is not None:
        for name in classes:
            if name not in found:
                raise MirstError(f"{root} has no class {name}; it has {', '.join(sorted(found))}")
        records = [record for record in records if record.label in classes]
        found = set(classes)
    if len(found) < fewest:
        raise MirstError(f"{root} contains one class only ({', '.join(found)}); a classifier needs at least two")
    return sorted(records, key=lambda record: (record.source, record.label, natural(record.name)))


def remark_other_classes(records: Iterable[Record], classes: Sequence[str], owner: str) -> str | None:
    """How many records of which classes are left out because they are not among `classes`; `None` if there are none.

    >>> records = [Record(Path("1.png"), label, None, "clinic") for label in ("cyst", "benign", "cyst")]
    >>> remark_other_classes(records, ["benign"], "the model")
    '2 images are left out, as the model has no such class: cyst (2)'
    """
    other = Counter(record.label for record in records if record.label not in classes)
    if not other:
        return None
    counts = ", ".join(f"{name} ({count})" for name, count in sorted(other.items()))
    images = "1 image is" if other.total() == 1 else f"{other.total()} images are"
    return f"{images} left out, as {owner} has no such class: {counts}"


def _require_distinct(labels: Iterable[str], root: Path) -> None:
    alike: dict[str, str] = {}
    for label in sorted(labels):
        other = alike.setdefault(label.casefold(), label)
        if other != label:
            raise MirstError(
                f"{root} has the classes {other} and {label}, which differ in letter case only; rename one"
            )


def _with_safe_names(records: list[Record], root: Path) -> list[Record]:
    """The records with names on one line each. Classes and image names that outputs cannot represent are errors."""
    for label in {record.label for record in records}:
        if not label or len(label) > MAX_LABEL or plain(harmless(label)) != label:
            raise MirstError(
                f"{root} has a class named {label[:MAX_LABEL]!r}; give it a name of at most {MAX_LABEL} characters "
                "that no spreadsheet takes for a formula (=, +, -, @)"
            )
    records = [
        replace(
            record,
            name=plain(record.name),
            source=plain(record.source),
            group=record.group and plain(record.group),
            split=record.split and plain(record.split),
            attributes={plain(name): plain(value) for name, value in record.attributes.items()},
        )
        for record in records
    ]
    counts = Counter((record.source, harmless(record.name)) for record in records)
    twice = [name for (_, name), count in counts.items() if count > 1]
    if twice:
        raise MirstError(f"{root} has two images named {twice[0]}; rename one")
    return records
