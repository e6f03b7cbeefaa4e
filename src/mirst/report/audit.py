"""The audit of a data set as files: `groups.csv` and a gallery."""

import io
from base64 import b64encode
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from mirst.data.audit import Audit
from mirst.data.similarity import Pair
from mirst.files import write_csv, write_text

THUMBNAIL = 220


def write_audit(audit: Audit, out: Path) -> Path:
    """Write `groups.csv` (`image,group`, with the source) and `audit.html`; returns the latter."""
    rows = [(r.name, g, r.source) for r, g in zip(audit.records, audit.groups, strict=True)]
    write_csv(out / "groups.csv", pd.DataFrame(rows, columns=["image", "group", "source"]))
    page = out / "audit.html"
    environment = Environment(
        loader=PackageLoader("mirst.report"), autoescape=select_autoescape(["j2"]), undefined=StrictUndefined
    )
    ordered = sorted(audit.pairs, key=lambda pair: (not _conflicting(audit, pair), -pair.coarse))
    write_text(
        page,
        environment.get_template("audit.html.j2").render(
            audit=audit,
            summary=audit_summary(audit),
            classes=sorted({record.label for record in audit.records}),
            pairs=[
                (pair, _conflicting(audit, pair), _thumb(audit, pair.first), _thumb(audit, pair.second))
                for pair in ordered
            ],
        ),
    )
    return page


def audit_summary(audit: Audit) -> list[str]:
    """The findings in sentences, the gravest first."""
    records = audit.records
    sentences = [
        f"LABEL CONFLICT: {', '.join(f'{records[i].name} ({records[i].label})' for i in group)}."
        for group in audit.conflicts
    ]
    sentences += [f"UNREADABLE: {reason}." for reason in audit.unreadable.values()]
    copies = sum(len(same) - 1 for same in audit.exact)
    return [
        *sentences,
        f"{len(records)} images form {len(set(audit.groups))} groups; {len(audit.pairs)} pairs show the same, "
        f"{copies} exact copies among them.",
        f"{len(audit.conflicts)} groups of look-alikes are filed under more than one class.",
        f"{len(audit.overlaps)} pairs lie across data sets, {len(audit.across_groups)} across named groups.",
        f"{len(audit.unreadable)} files are unreadable, {len(audit.blank)} images blank, {len(audit.tiny)} tiny.",
    ]


def _conflicting(audit: Audit, pair: Pair) -> bool:
    return audit.records[pair.first].label != audit.records[pair.second].label


def _thumb(audit: Audit, number: int) -> str:
    image = audit.images[number]
    assert image is not None  # pairs are of readable images
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, format="jpeg", quality=80)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"
