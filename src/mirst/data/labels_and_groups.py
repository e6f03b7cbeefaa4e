"""Groups and labels from an audit: records grouped, relabelled, and conflicts resolved."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from mirst.data.audit import Audit, audit_records
from mirst.data.record import Record
from mirst.errors import MirstError, suggestion

ConflictRule = Literal["keep", "drop"]
"""What to do with copies that have different labels: keep all, or drop all."""


def relabel(records: Sequence[Record], labels: Mapping[str, str | None], classes: Sequence[str]) -> list[Record]:
    """The records, some of them with another label.

    Args:
        labels: class by image name, or by `source/name` where two sources share the name; `None` removes the image.

    Raises:
        MirstError: no image or several images of a name, or a class that is not among `classes`.
    """
    changed: dict[int, str | None] = {}
    for name, label in labels.items():
        found = [i for i, record in enumerate(records) if name in (record.name, f"{record.source}/{record.name}")]
        if not found:
            raise MirstError(f"data.relabel: no image {name}{suggestion(name, [record.name for record in records])}")
        if len(found) > 1:
            raise MirstError(f"data.relabel: {name} is in several sources; write {records[found[0]].source}/{name}")
        if label is not None and label not in classes:
            raise MirstError(f"data.relabel: {label} is not a class; the classes are {', '.join(classes)}")
        changed[found[0]] = label
    mapped = [(record, changed.get(i, record.label)) for i, record in enumerate(records)]
    return [replace(record, label=label) for record, label in mapped if label is not None]


def assign_groups(records: Sequence[Record]) -> list[Record]:
    """The records, each with the group of `audit_records`: named groups and copies are joined.

    Raises:
        MirstError: an image cannot be read.
    """
    return resolve_conflicts(audit_records(records))


def resolve_conflicts(audited: Audit, conflicts: ConflictRule = "keep") -> list[Record]:
    """The audited records with their groups. Copies with different labels are kept or dropped.

    Raises:
        MirstError: an image cannot be read.
    """
    for reason in audited.found.unreadable.values():
        raise MirstError(reason)
    dropped = {i for group in audited.conflicts for i in group} if conflicts == "drop" else set()
    return [record for i, record in enumerate(audited.grouped()) if i not in dropped]
