"""What is wrong with a data set before anything is trained on it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mirst.data.images import decode
from mirst.data.readers import read_dataset
from mirst.data.record import Record
from mirst.data.similarity import Pair, describe_all, find_pairs
from mirst.errors import MirstError

WORKING_SIDE = 320
"""Longest side at which images are compared; larger ones are reduced to it."""
SMALLEST_SIDE = 32
BLANK_DEVIATION = 2.0
"""Gray levels of standard deviation below which an image is blank."""


@dataclass(frozen=True)
class Audit:
    """The findings. Indices are into `records`."""

    records: list[Record]
    images: list[Image.Image | None]
    """Reduced gray images; `None` where unreadable."""
    unreadable: dict[int, str]
    """With the reason."""
    blank: list[int]
    tiny: list[int]
    exact: list[list[int]]
    """Sets of images with the same pixels."""
    pairs: list[Pair]
    """Images that show the same, exact copies among them."""
    groups: list[str]
    """Of each record: named ones and pairs joined."""
    conflicts: list[list[int]]
    """Sets of images joined by pairs, filed under more than one class."""

    @property
    def overlaps(self) -> list[Pair]:
        """Pairs across data sets."""
        return [pair for pair in self.pairs if self._differ(pair, "source")]

    @property
    def across_groups(self) -> list[Pair]:
        """Pairs across groups that the data name, patients for one."""
        named = [p for p in self.pairs if self.records[p.first].group and self.records[p.second].group]
        return [pair for pair in named if self._differ(pair, "group")]

    def balance(self) -> dict[tuple[str, str], Counter[str]]:
        """Images per class, by source and scanner."""
        counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for record in self.records:
            counts[record.source, record.scanner or "not named"][record.label] += 1
        return dict(counts)

    def _differ(self, pair: Pair, field: str) -> bool:
        return bool(getattr(self.records[pair.first], field) != getattr(self.records[pair.second], field))


def audit(records: Sequence[Record]) -> Audit:
    """Look for copies, near-copies, label conflicts, and unreadable, blank or tiny images.

    Every image is decoded once; pairs are found by `mirst.data.similarity`.
    """
    images: list[Image.Image | None] = []
    unreadable: dict[int, str] = {}
    prints: defaultdict[str, list[int]] = defaultdict(list)
    blank, tiny = [], []
    for number, record in enumerate(records):
        try:
            image = decode(record.file)
        except MirstError as error:
            unreadable[number] = str(error)
            images.append(None)
            continue
        prints[hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()].append(number)
        if min(image.size) < SMALLEST_SIDE:
            tiny.append(number)
        if np.asarray(image).std() < BLANK_DEVIATION:
            blank.append(number)
        image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BILINEAR)
        images.append(image)

    pictures = {i: picture for i, picture in enumerate(images) if picture is not None and i not in blank}
    at = list(pictures)
    found = find_pairs(list(pictures.values()), describe_all(list(pictures.values())))
    pairs = [Pair(at[pair.first], at[pair.second], pair.coarse, pair.fine) for pair in found]
    return Audit(
        records=list(records),
        images=images,
        unreadable=unreadable,
        blank=blank,
        tiny=tiny,
        exact=[same for same in prints.values() if len(same) > 1],
        pairs=pairs,
        groups=_groups(records, pairs),
        conflicts=_conflicts(records, pairs),
    )


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
