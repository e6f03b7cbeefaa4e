"""The audit of a data set as files: `groups.csv` and a page with pictures."""

from pathlib import Path

import pandas as pd
from PIL import Image

from mirst.data import Audit, decode
from mirst.data.similarity import Pair
from mirst.files import write_csv
from mirst.report.figures import image_uri
from mirst.report.html import render

THUMBNAIL = 220


def write_audit(audit: Audit, out: Path) -> Path:
    """Write `groups.csv` (`image,group,source`) and `audit.html`, and return the path of the latter."""
    rows = [(r.name, g, r.source) for r, g in zip(audit.records, audit.groups, strict=True)]
    write_csv(out / "groups.csv", pd.DataFrame(rows, columns=["image", "group", "source"]))
    page = out / "audit.html"
    ordered = sorted(audit.found.pairs, key=lambda pair: (not _conflicting(audit, pair), -pair.coarse))
    render(
        page,
        "audit.html.j2",
        audit=audit,
        classes=sorted({record.label for record in audit.records}),
        pairs=[
            (pair, _conflicting(audit, pair), _thumb(audit, pair.first), _thumb(audit, pair.second)) for pair in ordered
        ],
    )
    return page


def _conflicting(audit: Audit, pair: Pair) -> bool:
    return audit.records[pair.first].label != audit.records[pair.second].label


def _thumb(audit: Audit, number: int) -> str:
    image = decode(audit.records[number].file)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    return image_uri(image, "jpeg", quality=80)
