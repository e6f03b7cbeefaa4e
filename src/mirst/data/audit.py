"""Checks of a data set before training: duplicates, label conflicts, unreadable files, groups."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
import scipy

from mirst.data.inspection import Inspection, inspect_images
from mirst.data.range_findings import range_sentence, range_warnings
from mirst.data.readers import read_dataset
from mirst.data.readers.skipped_files import listed
from mirst.data.record import Record
from mirst.data.similarity import Pair


@dataclass(frozen=True)
class Audit:
    """The findings. Indices are into `records`.

    >>> from mirst.data import read_dataset, write_phantoms
    >>> write_phantoms(Path("lesions"), 3)
    >>> audit = audit_records(read_dataset("lesions"))
    >>> len(audit.records), len(set(audit.groups)), audit.conflicts
    (6, 6, [])
    """

    records: list[Record]
    found: Inspection
    groups: list[str]
    """Of each record. Records of one named group and near-duplicates are joined."""
    conflicts: list[list[int]]
    """Sets of near-duplicates with more than one label."""
    notes: tuple[str, ...] = ()
    """Further sentences about the data sets, such as which files are not images."""

    @property
    def overlaps(self) -> list[Pair]:
        """Pairs across data sets."""
        return [pair for pair in self.found.pairs if self._differ(pair, "source")]

    @property
    def across_groups(self) -> list[Pair]:
        """Pairs across groups that the data set defines, such as patients."""
        named = [p for p in self.found.pairs if self.records[p.first].group and self.records[p.second].group]
        return [pair for pair in named if self._differ(pair, "group")]

    def conflicting(self) -> list[list[Record]]:
        """The records of `conflicts`."""
        return [[self.records[i] for i in group] for group in self.conflicts]

    def grouped(self) -> list[Record]:
        """The records, each in its group."""
        return [replace(record, group=group) for record, group in zip(self.records, self.groups, strict=True)]

    def balance(self) -> dict[tuple[str, str], Counter[str]]:
        """Images per class, by source and scanner."""
        counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for record in self.records:
            counts[record.source, record.scanner or "not named"][record.label] += 1
        return dict(counts)

    def remarks(self) -> list[str]:
        """What to know before a run: images that look like masks, pages that are not read, lost gray levels, notes."""
        warnings = [*self._mask_warnings(), *self._page_warnings(), *self.range_warnings()]
        return [*(f"WARNING: {one}" for one in warnings), *self.notes]

    def range_warnings(self) -> list[str]:
        """Sentences about images that lost gray levels or are shown in another range than the others."""
        return range_warnings(self.found, [record.name for record in self.records])

    def _mask_warnings(self) -> list[str]:
        masks = [self._beside(number) for number in self.found.two_level]
        if not masks:
            return []
        look = "1 image looks like a mask" if len(masks) == 1 else f"{len(masks)} images look like masks"
        return [
            f"{look}, with two gray levels: {listed(masks)}. Remove every mask, or put the word mask into its "
            "file name."
        ]

    def _page_warnings(self) -> list[str]:
        names = [f"{self.records[number].name} ({count})" for number, count in self.found.pictures.items()]
        if not names:
            return []
        files = "1 file contains" if len(names) == 1 else f"{len(names)} files contain"
        return [
            f"{files} several pages or frames, of which only the first is read: {listed(names)}. Save every "
            "page that is a separate image as its own file."
        ]

    def summary(self) -> list[str]:
        """The findings in sentences, the most serious first."""
        found = self.found
        filed = [", ".join(f"{record.name} ({record.label})" for record in group) for group in self.conflicting()]
        sentences = [f"LABEL CONFLICT: {names}." for names in filed]
        sentences += [f"UNREADABLE: {reason}." for reason in found.unreadable.values()]
        copies = sum(len(same) - 1 for same in found.exact)
        return [
            *sentences,
            *self.remarks(),
            f"{len(self.records)} images form {len(set(self.groups))} groups. {len(found.pairs)} pairs are "
            f"near-duplicates, including {copies} exact copies.",
            f"{len(self.conflicts)} groups of near-duplicates have more than one label.",
            f"In {len(self.overlaps)} pairs the images come from different data sets, and in {len(self.across_groups)} "
            "pairs from different named groups (patients or cases).",
            f"{len(found.unreadable)} files are unreadable, {len(found.blank)} images blank, {len(found.tiny)} tiny.",
            range_sentence(found),
        ]

    def _beside(self, number: int) -> str:
        """The name of the image, and of the image that its name starts with, if any; one in the same folder first."""
        name, source = self.records[number].name, self.records[number].source
        stem, folder = PurePath(name).stem, PurePath(name).parent
        others = [r.name for r in self.records if r.source == source and r.name != name and _begins(stem, r.name)]
        if not others:
            return name
        return f"{name} (beside {max(others, key=lambda other: (PurePath(other).parent == folder, len(other)))})"

    def _differ(self, pair: Pair, field: str) -> bool:
        return bool(getattr(self.records[pair.first], field) != getattr(self.records[pair.second], field))


def audit_records(records: Sequence[Record], notes: Sequence[str] = ()) -> Audit:
    """Find copies, near-copies, label conflicts, and unreadable, blank or tiny images.

    The records of the result have a `value_range`: the one with which images that define none are scaled.

    Args:
        notes: remarks of `read_dataset`, to be added to the findings.

    Raises:
        MirstError: the cache cannot be written.
    """
    found = inspect_images([record.file for record in records])
    records = [replace(record, value_range=record.value_range or found.value_range) for record in records]
    groups, conflicts = _groups(records, found.pairs), _conflicts(records, found.pairs)
    return Audit(records, found, groups, conflicts, tuple(notes))


def read_for_audit(paths: Sequence[str | Path], on_remark: Callable[[str], object] | None = None) -> list[Record]:
    """The records of several data sets; a name that two of them share gets a number.

    Args:
        on_remark: as for `read_dataset`.

    Raises:
        MirstError: a path that `read_dataset` rejects.
    """
    records: list[Record] = []
    for number, path in enumerate(paths, start=1):
        own = read_dataset(path, on_remark=on_remark)
        if {r.source for r in own} & {r.source for r in records}:
            own = [replace(r, source=f"{r.source}-{number}", group=r.group and f"{number}-{r.group}") for r in own]
        records += own
    return records


def _begins(stem: str, name: str) -> bool:
    """Whether `stem` is that of the file `name`, or continues it after something that is no letter or digit."""
    rest = stem.removeprefix(PurePath(name).stem)
    return rest != stem and not rest[:1].isalnum()


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
    graph = scipy.sparse.coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return [int(i) for i in first[component]]
