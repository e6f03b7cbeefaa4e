"""The results folder of a study."""

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mirst.errors import MirstError
from mirst.evaluation import summarise
from mirst.files import write_csv, write_text
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared

PACKAGES = ("mirst", "torch", "monai", "numpy", "pandas", "scikit-learn", "pillow")


@dataclass(frozen=True)
class Results:
    """A finished study, read back from its folder."""

    folder: Path
    spec: StudySpec
    run: dict[str, Any]
    """Versions, data fingerprint, classes and the like, from `run.json`."""
    outcomes: pd.DataFrame
    summary: pd.DataFrame

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.run["data"]["classes"])

    @property
    def positive(self) -> str:
        return str(self.run["data"]["positive"])


def open_folder(out: Path, prepared: Prepared) -> None:
    """Make `out` the folder of this study; one that holds this very study already is fine.

    Raises:
        MirstError: it holds another study, or files that are none.
    """
    plain = prepared.spec.resolved()
    study, run = out / "study.yaml", out / "run.json"
    if run.exists():
        _require_same(out, plain, _fingerprint(prepared))
        return
    if out.exists() and (not out.is_dir() or any(p != study and not p.name.startswith(".") for p in out.iterdir())):
        raise MirstError(f"{out} exists and is no results folder; name another with --out")
    write_text(study, yaml.safe_dump(plain, sort_keys=False))
    write_text(run, json.dumps(_description(prepared), indent=2))


def collect(out: Path, folders: Sequence[Path], prepared: Prepared) -> None:
    """Write `outcomes.csv` and `summary.csv` from the trials' rows."""
    texts = [pd.read_csv(folder / "outcomes.csv", dtype=str, keep_default_na=False) for folder in folders]
    write_csv(out / "outcomes.csv", pd.concat(texts))
    outcomes = _read_csv(out / "outcomes.csv")
    write_csv(out / "summary.csv", summarise(outcomes, prepared.classes, prepared.positive))


def read_results(folder: str | Path) -> Results:
    """Read a finished study.

    Raises:
        MirstError: no such folder, or one without the files of a finished study.
    """
    folder = Path(folder)
    for name in ("study.yaml", "run.json", "outcomes.csv", "summary.csv"):
        if not (folder / name).is_file():
            raise MirstError(f"{folder} lacks {name}: no finished study; run mirst run with --out {folder} first")
    spec = StudySpec.model_validate(yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8")))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return Results(folder, spec, run, _read_csv(folder / "outcomes.csv"), _read_csv(folder / "summary.csv"))


def _require_same(out: Path, plain: dict[str, Any], fingerprint: str) -> None:
    before = yaml.safe_load((out / "study.yaml").read_text(encoding="utf-8"))
    for section in plain:
        old, new = (_comparable(section, spec.get(section)) for spec in (before, plain))
        if old != new:
            raise MirstError(
                f"{out} holds another study (its {section} differ); name another folder with --out or remove it"
            )
    if json.loads((out / "run.json").read_text(encoding="utf-8"))["data"]["fingerprint"] != fingerprint:
        raise MirstError(f"{out} holds this study on other data; name another folder with --out or remove it")


def _comparable(section: str, value: Any) -> Any:
    if section == "out":
        return None
    if section == "data":
        return {key: setting for key, setting in value.items() if key not in ("path", "sources")}
    return json.loads(json.dumps(value))


def _description(prepared: Prepared) -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: version(name) for name in PACKAGES},
        "seeds": list(prepared.spec.seeds),
        "data": {
            "images": len(prepared.records),
            "groups": len({record.group for record in prepared.records}),
            "per_class": {name: sum(record.label == name for record in prepared.records) for name in prepared.classes},
            "classes": list(prepared.classes),
            "positive": prepared.positive,
            "fingerprint": _fingerprint(prepared),
        },
    }


def _fingerprint(prepared: Prepared) -> str:
    """Of names, labels, groups and prepared pixels."""
    digest = hashlib.sha256(prepared.images.pixels.data)
    for record in prepared.records:
        digest.update(json.dumps([record.name, record.label, record.group, record.source]).encode())
    return digest.hexdigest()


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=[""])
