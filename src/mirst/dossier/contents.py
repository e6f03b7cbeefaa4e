"""The files of a dossier and its manifest."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mirst.study.layout import SUITES, StudyFolder, TrialFolder

FORMAT = 1
MANIFEST, IMAGES = "manifest.json", "images.csv"
_STUDY, _A_TRIAL = StudyFolder(Path()), TrialFolder(Path())
NEEDED = (_STUDY.spec.name, _STUDY.run.name, _STUDY.outcomes.name, _STUDY.summary.name, IMAGES)
"""Without one of them nothing can be checked."""
STUDY_FILES = tuple(
    path.name
    for path in (
        *(_STUDY.spec, _STUDY.run, _STUDY.outcomes, _STUDY.summary, _STUDY.failed, _STUDY.old_failed, _STUDY.records),
        *(_STUDY.baselines, _STUDY.certificates, _STUDY.witnesses),
        *(_STUDY.table(f"{suite}{ending}") for suite in SUITES for ending in ("", "-checks", "-costs")),
    )
)
TRIAL_FILES = tuple(
    path.name for path in (_A_TRIAL.model, _A_TRIAL.witnesses, _A_TRIAL.history, _A_TRIAL.diverged, _A_TRIAL.killed)
)
"""Neither list names a file with images."""
WRITTEN = (_STUDY.report.name, _STUDY.paper_table.name, _STUDY.differences.name)
"""What `write_report` makes of the others, beside the folder `tables`."""

_TRIAL = rf"trials/[^/\\]+/(?:{'|'.join(map(re.escape, TRIAL_FILES))})"
_NAMES = re.compile(
    "|".join(
        (
            *map(re.escape, (IMAGES, *STUDY_FILES, *WRITTEN)),
            _TRIAL,
            r"tables/[\w-]+\.(?:csv|md|tex)",
            r"images/[0-9a-f]{64}(?:\.\w{1,8})?",
        )
    )
)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Short = Annotated[str, Field(max_length=500)]
Count = Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """What `manifest.json` contains."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[\w][\w .+-]{0,199}$")]
    """Of the results folder; the report shows it."""
    packages: Annotated[dict[Short, Short], Field(max_length=50)]
    """Versions of the packages that wrote the dossier."""
    preparation: int
    """Version of the preparation of images."""
    audit: int
    """Version of the audit, which makes the groups."""
    files: Annotated[dict[str, Digest], Field(max_length=10_000)]
    """SHA-256 of every other file of the archive by name."""


class RunData(BaseModel):
    """The section `data` of `run.json`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: Count
    groups: Count
    per_class: dict[Short, Count]
    classes: Annotated[list[Short], Field(min_length=2, max_length=1000)]
    positive: Short
    fingerprint: Digest
    audit: list[str]
    conflicts: list[dict[str, str]] = []


class Run(BaseModel):
    """What `run.json` contains, as far as the report reads it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    started: Short
    python: Short
    machine: Short
    packages: dict[Short, Short]
    seeds: list[int]
    weights: dict[str, Any] | None
    data: RunData
    ensemble: dict[str, Any] | None = None


def is_content(name: str) -> bool:
    """Whether a dossier may contain a file of this name.

    >>> is_content("trials/ce-fold0-seed0/model.safetensors"), is_content("trials/../x/model.safetensors")
    (True, False)
    """
    return _NAMES.fullmatch(name) is not None and ".." not in name.split("/")
