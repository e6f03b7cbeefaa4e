"""Checks of a data set before training: copies, label conflicts, unreadable files, groups."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np
import scipy

from mirst.data.inspection import Inspection, inspect_images
from mirst.data.levels import CERTAIN, AuditRule, Thresholds, estimate_thresholds
from mirst.data.range_findings import range_sentence, range_warnings
from mirst.data.readers import read_dataset
from mirst.data.readers.skipped_files import listed
from mirst.data.record import Record
from mirst.data.similarity import Pair
from mirst.data.threads import OnStage, no_stage

LARGE_GROUP, LARGE_SHARE = 10, 0.1
"""Images, and share of all images, from which a joined group is warned of."""
_JOINED = {
    "copies": " and are not joined",
    "look_alikes": " and are joined as well",
    "named": "; neither is joined, since data.audit.join is named",
    "none": "; nothing is joined, since data.audit.join is none",
}


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
    """Of each record, as `rule` says; by default records of one named group and copies are joined."""
    copies: list[Pair]
    """Pairs of images with the same pixels up to size, crop, mirroring, contrast, compression and overlay."""
    look_alikes: list[Pair]
    """Further pairs that look more alike than others of the data set."""
    conflicts: list[list[int]]
    """Sets of copies (and of look-alikes, if they are joined) with more than one label."""
    thresholds: Thresholds
    rule: AuditRule = field(default_factory=AuditRule)
    notes: tuple[str, ...] = ()
    """Further sentences about the data sets, such as which files are not images."""

    @property
    def overlaps(self) -> list[Pair]:
        """Copies across data sets."""
        return [pair for pair in self.copies if self._differ(pair, "source")]

    @property
    def across_groups(self) -> list[Pair]:
        """Copies across groups that the data set defines, such as patients."""
        return [pair for pair in self.copies if _across_named(self.records, pair)]

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
        """What to know before a run: doubtful groups, images that look like masks, pages that are not read, lost gray
        levels, notes."""
        warnings = [*self._join_warnings(), *self._mask_warnings(), *self._page_warnings(), *self.range_warnings()]
        return [*(f"WARNING: {one}" for one in warnings), *self.notes]

    def range_warnings(self) -> list[str]:
        """Sentences about images that lost gray levels or are shown in another range than the others."""
        return range_warnings(self.found, [record.name for record in self.records])

    def _join_warnings(self) -> list[str]:
        warnings = []
        if self.rule.fine is None and self.thresholds.fine > CERTAIN:
            warnings.append(
                "All images share so much detail that copies cannot be told from other images; only identical ones "
                "are joined. Look at the pairs (mirst data audit --out DIR) and set data.audit.fine."
            )
        name, images, named = self._largest_join()
        if images >= LARGE_GROUP and images > LARGE_SHARE * len(self.records) and named > 1:
            warnings.append(
                f"{images} of {len(self.records)} images form one group ({name}), which stays in one part of every "
                "split. Look at its pairs (mirst data audit --out DIR); if they show different patients, raise "
                "data.audit.fine, or set data.audit.join=named."
            )
        return warnings

    def _largest_join(self) -> tuple[str, int, int]:
        """The largest group, its number of images, and of how many groups it would consist if nothing was joined."""
        (name, images), *_ = [*Counter(self.groups).most_common(1), ("", 0)]
        members = [record for record, group in zip(self.records, self.groups, strict=True) if group == name]
        return name, images, len({record.group or (record.source, record.name) for record in members})

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
            f"{len(self.records)} images form {len(set(self.groups))} groups, the largest of {self._largest_join()[1]}"
            f" images. {len(self.copies)} pairs are copies, including {copies} exact ones. {len(self.look_alikes)} "
            f"further pairs look alike{_JOINED[self.rule.join]}.",
            f"{len(self.conflicts)} groups of copies have more than one label.",
            f"In {len(self.overlaps)} pairs of copies the images come from different data sets, and in "
            f"{len(self.across_groups)} from different named groups (patients or cases).",
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


def audit_records(
    records: Sequence[Record],
    notes: Sequence[str] = (),
    rule: AuditRule | None = None,
    on_stage: OnStage = no_stage,
) -> Audit:
    """Find copies, look-alikes, label conflicts, and unreadable, blank or tiny images.

    The records of the result have a `value_range`: the one with which images that define none are scaled.

    Args:
        notes: remarks of `read_dataset`, to be added to the findings.
        rule: which images are joined; by default named groups and copies.
        on_stage: called with the progress of images that were not audited before.

    Raises:
        MirstError: the cache cannot be written.
    """
    rule = rule or AuditRule()
    found = inspect_images([record.file for record in records], on_stage)
    records = [replace(record, value_range=record.value_range or found.value_range) for record in records]
    others = [p for p in found.pairs if records[p.first].group is None or _across_named(records, p)]
    thresholds = estimate_thresholds(others, found.random, rule)
    copies, look_alikes = (
        [pair for pair in found.pairs if thresholds.level(pair) == level] for level in ("copies", "look-alikes")
    )
    same = [*copies, *look_alikes] if rule.join == "look_alikes" else copies
    return Audit(
        records=records,
        found=found,
        groups=_groups(records, [] if rule.join in ("named", "none") else same, named=rule.join != "none"),
        copies=copies,
        look_alikes=look_alikes,
        conflicts=_conflicts(records, same),
        thresholds=thresholds,
        rule=rule,
        notes=tuple(notes),
    )


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


def _across_named(records: Sequence[Record], pair: Pair) -> bool:
    first, second = records[pair.first].group, records[pair.second].group
    return first is not None and second is not None and first != second


def _groups(records: Sequence[Record], pairs: Sequence[Pair], named: bool) -> list[str]:
    """Names of the joined groups: that of the first member, else after its image.

    Args:
        named: whether the groups that the data set names are kept.
    """
    links = [(p.first, p.second) for p in pairs]
    first_of: dict[str, int] = {}
    for number, record in enumerate(records):
        if named and record.group is not None:
            links.append((first_of.setdefault(record.group, number), number))
    heads = [records[head] for head in _components(len(records), links)]
    return [(named and head.group) or f"{head.source}-{head.name}" for head in heads]


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
