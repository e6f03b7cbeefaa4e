"""The audit of a data set as files: `groups.csv`, `pairs.csv`, and a page with pictures."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from mirst.data import Audit, decode
from mirst.data.similarity import Pair
from mirst.files import write_csv
from mirst.report.figures import image_uri
from mirst.report.html import render

THUMBNAIL = 220
SHOWN = 150
"""Pairs of each level with pictures; a page of all would not open in a browser."""


def write_audit(audit: Audit, out: Path) -> Path:
    """Write `groups.csv` (`image,group,source`), `pairs.csv` and `audit.html`, and return the path of the latter."""
    rows = [(r.name, g, r.source) for r, g in zip(audit.records, audit.groups, strict=True)]
    write_csv(out / "groups.csv", pd.DataFrame(rows, columns=["image", "group", "source"]))
    levels = {"copies": _ordered(audit, audit.copies), "look-alikes": _ordered(audit, audit.look_alikes)}
    pairs = [_row(audit, level, pair) for level, found in levels.items() for pair in found]
    write_csv(out / "pairs.csv", pd.DataFrame(pairs, columns=PAIR_COLUMNS))
    page = out / "audit.html"
    render(
        page,
        "audit.html.j2",
        audit=audit,
        classes=sorted({record.label for record in audit.records}),
        levels={
            level: [
                (pair, _conflicting(audit, pair), _thumb(audit, pair.first), _thumb(audit, pair.second))
                for pair in found[:SHOWN]
            ]
            for level, found in levels.items()
        },
        counts={level: len(found) for level, found in levels.items()},
    )
    return page


PAIR_COLUMNS = ["level", "first", "first_source", "second", "second_source", "coarse", "fine", "different_classes"]


def _row(audit: Audit, level: str, pair: Pair) -> tuple[object, ...]:
    first, second = audit.records[pair.first], audit.records[pair.second]
    names = (first.name, first.source, second.name, second.source)
    return (level, *names, pair.coarse, pair.fine, _conflicting(audit, pair))


def _ordered(audit: Audit, pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs with different classes first, then by their scores."""
    return sorted(pairs, key=lambda pair: (not _conflicting(audit, pair), -pair.fine, -pair.coarse))


def _conflicting(audit: Audit, pair: Pair) -> bool:
    return audit.records[pair.first].label != audit.records[pair.second].label


def _thumb(audit: Audit, number: int) -> str:
    image = decode(audit.records[number].file)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    return image_uri(image, "jpeg", quality=80)
