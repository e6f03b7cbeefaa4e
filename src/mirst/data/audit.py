"""What is wrong with a data set before anything is trained on it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mirst.data.inspection import Inspection, inspect_images
from mirst.data.range_findings import range_sentence, range_warnings
from mirst.data.readers import read_dataset
from mirst.data.record import Record
from mirst.data.similarity import Pair


@dataclass(frozen=True)
class Audit:
    """The findings. Indices are into `records`."""

    records: list[Record]
    found: Inspection
    groups: list[str]
    """Of each record: named ones and pairs joined."""
    conflicts: list[list[int]]
    """Sets of images joined by pairs, filed under more than one class."""

    @property
    def overlaps(self) -> list[Pair]:
        """Pairs across data sets."""
        return [pair for pair in self.found.pairs if self._differ(pair, "source")]

    @property
    def across_groups(self) -> list[Pair]:
        """Pairs across groups that the data name, patients for one."""
        named = [p for p in self.found.pairs if self.records[p.first].group and self.records[p.second].group]
        return [pair for pair in named if self._differ(pair, "group")]

    def conflicting(self) -> list[list[Record]]:
        """The records of `conflicts`."""
        return [[self.records[i] for i in group] for group in self.conflicts]

    def balance(self) -> dict[tuple[str, str], Counter[str]]:
        """Images per class, by source and scanner."""
        counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for record in self.records:
            counts[record.source, record.scanner or "not named"][record.label] += 1
        return dict(counts)

    def summary(self) -> list[str]:
        """The findings in sentences, the gravest first."""
        found = self.found
        filed = [", ".join(f"{record.name} ({record.label})" for record in group) for group in self.conflicting()]
        sentences = [f"LABEL CONFLICT: {names}." for names in filed]
        sentences += [f"UNREADABLE: {reason}." for reason in found.unreadable.values()]
        copies = sum(len(same) - 1 for same in found.exact)
        return [
            *sentences,
            *self.warnings(),
            f"{len(self.records)} images form {len(set(self.groups))} groups; {len(found.pairs)} pairs show the same, "
            f"{copies} exact copies among them.",
            f"{len(self.conflicts)} groups of look-alikes are filed under more than one class.",
            f"{len(self.overlaps)} pairs lie across data sets, {len(self.across_groups)} across named groups.",
            f"{len(found.unreadable)} files are unreadable, {len(found.blank)} images blank, {len(found.tiny)} tiny.",
            range_sentence(found),
        ]

    def warnings(self) -> list[str]:
        """What of the gray values a run must not pass over in silence."""
        return range_warnings(self.found, [record.name for record in self.records])

    def _differ(self, pair: Pair, field: str) -> bool:
        return bool(getattr(self.records[pair.first], field) != getattr(self.records[pair.second], field))


def audit(records: Sequence[Record]) -> Audit:
    """Look for copies, near-copies, label conflicts, and unreadable, blank or tiny images.

    The records of the result know the range in which images that state none are shown.

    Raises:
        MirstError: the cache cannot be written.
    """
    found = inspect_images([record.file for record in records])
    records = [replace(record, value_range=record.value_range or found.value_range) for record in records]
    return Audit(records, found, _groups(records, found.pairs), _conflicts(records, found.pairs))


def read_for_audit(paths: Sequence[str | Path]) -> list[Record]:
    """The records of several data sets; a name that two of them share gets a number.

    Raises:
        MirstError: a path that `read_dataset` refuses.
    """
    records: list[Record] = []
    for number, path in enumerate(paths, start=1):
        own = read_dataset(path)
        if {r.source for r in own} & {r.source for r in records}:
            own = [replace(r, source=f"{r.source}-{number}", group=r.group and f"{number}-{r.group}") for r in own]
        records += own
    return records


def _groups(records: Sequence[Record], pairs: Sequence[Pair]) -> list[str]:
    """Names of the joined groups: that of the first member, else after its image."""
    links = [(p.first, p.second) for p in pairs]
    first_of: dict[str, int] = {}
    for number, record in enumerate(records):
        if record.group is not None:
            links.append((first_of.setdefault(record.group, number), number))
    heads = _components(len(records), links)
    return [records[head].group or f"{records[head].source}-{records[head].name}" for head in heads]


def _conflicts(records: Sequence[Record], pairs: Sequence[Pair]) -> list[list[int]]:
    members: defaultdict[int, list[int]] = defaultdict(list)
    for number, head in enumerate(_components(len(records), [(p.first, p.second) for p in pairs])):
        members[head].append(number)
    return [group for group in members.values() if len({records[i].label for i in group}) > 1]


def _components(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `count` nodes the first node that it is linked to, directly or by a chain."""
    if count == 0:
        return []
    rows, columns = zip(*links, strict=True) if links else ((), ())
    graph = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return [int(i) for i in first[component]]
