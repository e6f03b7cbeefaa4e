"""What is made of an audit: groups, and labels in doubt settled."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from mirst.data.audit import Audit, audit_records
from mirst.data.record import Record
from mirst.errors import MirstError, suggestion

ConflictRule = Literal["keep", "drop"]


def relabel(records: Sequence[Record], labels: Mapping[str, str | None], classes: Sequence[str]) -> list[Record]:
    """The records, single images of them filed under another class.

    Args:
        labels: class by image name, or by `source/name` where two sources share the name; `None`
            leaves the image out.

    Raises:
        MirstError: no or several images of a name, or a class that is not among `classes`.
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
    """The records, each in the group that `audit` finds: those that the data name and look-alikes, joined.

    Raises:
        MirstError: an image cannot be read.
    """
    return settle(audit_records(records))


def settle(audited: Audit, conflicts: ConflictRule = "keep") -> list[Record]:
    """The audited records in their groups, look-alikes filed under several classes kept or dropped.

    Raises:
        MirstError: an image cannot be read.
    """
    for reason in audited.found.unreadable.values():
        raise MirstError(reason)
    dropped = {i for group in audited.conflicts for i in group} if conflicts == "drop" else set()
    return [record for i, record in enumerate(audited.grouped()) if i not in dropped]
