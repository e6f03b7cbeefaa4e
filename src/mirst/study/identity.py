"""Whether a results folder is that of a study: its settings, data and initial weights are the same."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import yaml

from mirst.errors import MirstError
from mirst.files import write_text
from mirst.study.layout import StudyFolder
from mirst.study.origin import Origin, origin_of
from mirst.study.prepared import Prepared
from mirst.study.results import read_run, read_spec

PACKAGES = ("mirst", "torch", "numpy", "pandas", "scikit-learn", "pillow")
"""Packages whose versions are recorded."""


def open_folder(study: StudyFolder, prepared: Prepared, origin: Origin | None = None) -> None:
    """Make the folder that of this study; a folder that holds this very study already is fine.

    Args:
        origin: of the models, if they are ensembles.

    Raises:
        MirstError: it contains another study, or files that are not a study.
    """
    if not holds_study(study, prepared):
        write_text(study.spec, yaml.safe_dump(prepared.spec.resolved(), sort_keys=False))
        run = _description(prepared) | ({} if origin is None else origin.entry())
        write_text(study.run, json.dumps(run, indent=2))


def holds_study(study: StudyFolder, prepared: Prepared) -> bool:
    """Whether the folder is that of this study already; if not, it can become it.

    Raises:
        MirstError: it contains another study, or files that are not a study.
    """
    if study.run.exists():
        difference = _difference(study, prepared, prepared.spec.resolved())
        if difference is not None:
            raise MirstError(
                f"{study.path} contains {difference}; undo the change, give another folder with --out, or remove "
                f"{study.path}"
            )
        return True
    out = study.path
    if out.exists() and (
        not out.is_dir() or any(p != study.spec and not p.name.startswith(".") for p in out.iterdir())
    ):
        raise MirstError(f"{out} exists and is not a results folder; give another folder with --out")
    return False


def require_no_ensembles(study: StudyFolder) -> None:
    """Before a study is trained into the folder.

    Raises:
        MirstError: it contains ensembles.
    """
    origin = origin_of(read_run(study)) if study.run.exists() else None
    if origin is not None:
        raise MirstError(
            f"{study.path} contains {origin}, which mirst run cannot train; give another folder with --out, or repeat "
            "mirst ensemble"
        )


def require_ensembles(study: StudyFolder, origin: Origin) -> None:
    """Before ensembles are written into the folder, which may be new.

    Raises:
        MirstError: it contains a study that is no ensemble, or one of other members.
    """
    if not study.run.exists():
        return
    before = origin_of(read_run(study))
    if before is None or (before.started, before.seeds) != (origin.started, origin.seeds):
        raise MirstError(
            f"{study.path} contains {before or 'a study of single models'}, not {origin}; give another folder with "
            f"--out, or remove {study.path}"
        )


def same_trials(study: StudyFolder, prepared: Prepared) -> bool:
    """Whether the folder holds a study whose trials have the same numbers, for those defenses and seeds that it has."""
    sections = [name for name in prepared.spec.resolved() if name not in ("defenses", "seeds")]
    if not study.run.exists() or origin_of(read_run(study)) is not None:
        return False
    return _difference(study, prepared, sections) is None


def _difference(study: StudyFolder, prepared: Prepared, sections: Iterable[str]) -> str | None:
    """How the study in the folder differs from this one, as the end of "it contains ..."."""
    try:
        before = read_spec(study).resolved()  # with the defaults of keys that are younger than the folder
    except MirstError:
        return "a study that this version cannot read"
    own = prepared.spec.resolved()
    for section in sections:
        if _comparable(section, before.get(section)) != _comparable(section, own[section]):
            return f"another study (the settings of {section} differ)"
    run = read_run(study)
    if run["data"]["fingerprint"] != prepared.fingerprint:
        return f"this study with {_other_data(run['data'], prepared)}"
    if _digest(run.get("weights")) != _digest(_weights(prepared)):
        return "this study with other initial weights"
    return None


def _other_data(before: dict[str, Any], prepared: Prepared) -> str:
    """Versions of the audit form other groups of the same images."""
    groups = len({record.group for record in prepared.records})
    if before["groups"] == groups:
        return "other data"
    return (
        f"other data, or other groups: it has {before['images']} images in {before['groups']} groups, and the data set "
        f"now has {len(prepared.records)} in {groups}"
    )


def _digest(weights: dict[str, Any] | None) -> str:
    return "" if weights is None else str(weights["sha256"])


def _comparable(section: str, value: Any) -> Any:
    if section in ("out", "reuse", "certify"):
        return None
    if section == "model":
        return {key: setting for key, setting in value.items() if key != "weights"}  # their content is compared
    if section == "data":
        return {key: setting for key, setting in value.items() if key not in ("path", "sources", "extra", "modality")}
    return json.loads(json.dumps(value))


def _description(prepared: Prepared) -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: version(name) for name in PACKAGES},
        "seeds": list(prepared.spec.seeds),
        "weights": _weights(prepared),
        "data": {
            "images": len(prepared.records),
            "groups": len({record.group for record in prepared.records}),
            "per_class": {name: sum(record.label == name for record in prepared.records) for name in prepared.classes},
            "classes": list(prepared.classes),
            "positive": prepared.positive,
            "fingerprint": prepared.fingerprint,
            "audit": prepared.audit.summary(),
            "conflicts": [
                {f"{record.source}/{record.name}": record.label for record in group}
                for group in prepared.audit.conflicting()
            ],
        },
    }


def _weights(prepared: Prepared) -> dict[str, Any] | None:
    """What every training starts from; `None`: random weights."""
    return None if prepared.weights is None else json.loads(json.dumps(asdict(prepared.weights)))
