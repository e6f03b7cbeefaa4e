"""The results folder of a study."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mirst.errors import MirstError
from mirst.evaluation import summarise
from mirst.evaluation.summary import TRIAL
from mirst.files import write_csv, write_text
from mirst.study.load import load_spec
from mirst.study.named_configs import NamedDefense
from mirst.study.row_checks import AGAIN, ROWS, require_every_trial, require_rows
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared, Trial, failure

TABLES = ("outcomes.csv", "summary.csv", "diverged.csv")
SUITES = ("standard", "adaptive")
DIVERGED = ["defense", "drop_max", "fold", "seed", "reason"]
COLUMNS = {
    "outcomes.csv": ROWS,
    "summary.csv": ["defense", "drop_max", "attack", "metric", "mean", "std"],
    "diverged.csv": DIVERGED,
    **{f"{suite}.csv": ROWS for suite in SUITES},
    **{f"{suite}-checks.csv": [*TRIAL, "name", "verdict", "figures"] for suite in SUITES},
    "distances.csv": [*TRIAL, "source", "image", "label", "eps"],
}
"""What a reader of each table relies on."""
PACKAGES = ("mirst", "torch", "monai", "numpy", "pandas", "scikit-learn", "pillow")


@dataclass(frozen=True, eq=False)
class Results:
    """A finished study, read back from its folder."""

    folder: Path
    spec: StudySpec
    run: dict[str, Any]
    """Versions, data fingerprint, classes and the like, from `run.json`."""
    outcomes: pd.DataFrame
    summary: pd.DataFrame
    """Without the defenses of which a trial diverged or was killed: the mean of the others would flatter them."""
    diverged: pd.DataFrame
    """`defense, drop_max, fold, seed, reason` of the trials that did, or whose worker was killed."""

    suites: dict[str, pd.DataFrame]
    """Attacked rows of the suites that its models were attacked with later, by the suite's name."""
    checks: dict[str, pd.DataFrame]
    """Of masking: `defense, drop_max, fold, seed, name, verdict, figures`, by the suite's name."""
    distances: pd.DataFrame | None
    """The smallest eps that breaks each image, as `named_distances`, where it was searched."""

    def is_whole(self, entry: NamedDefense) -> bool:
        """Whether every trial of the defense has rows."""
        failed = zip(self.diverged["defense"], self.diverged["drop_max"], strict=True)
        return (entry.label, entry.drop_max) not in set(failed)

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
    if not holds_study(out, prepared):
        write_text(out / "study.yaml", yaml.safe_dump(prepared.spec.resolved(), sort_keys=False))
        write_text(out / "run.json", json.dumps(_description(prepared), indent=2))


def holds_study(out: Path, prepared: Prepared) -> bool:
    """Whether `out` is the folder of this study already; if not, it can become it.

    Raises:
        MirstError: it holds another study, or files that are none.
    """
    study, run = out / "study.yaml", out / "run.json"
    if run.exists():
        difference = _difference(out, prepared, prepared.spec.resolved())
        if difference is not None:
            raise MirstError(f"{out} holds {difference}; name another folder with --out or remove it")
        return True
    if out.exists() and (not out.is_dir() or any(p != study and not p.name.startswith(".") for p in out.iterdir())):
        raise MirstError(f"{out} exists and is no results folder; name another with --out")
    return False


def collect(out: Path, trials: Mapping[Path, Trial], prepared: Prepared) -> None:
    """Write `outcomes.csv`, `diverged.csv` and `summary.csv` from the trials' folders.

    Raises:
        MirstError: every trial failed.
    """
    reasons = {folder: failure(folder) for folder in trials}
    diverged = [trials[folder].key() | {"reason": reason} for folder, reason in reasons.items() if reason]
    finished = [folder for folder, reason in reasons.items() if not reason]
    if not finished:
        raise MirstError(f"every trial failed; the first: {diverged[0]['reason']}")
    write_csv(out / "diverged.csv", pd.DataFrame(diverged, columns=DIVERGED))
    texts = [pd.read_csv(folder / "outcomes.csv", dtype=str, keep_default_na=False) for folder in finished]
    write_csv(out / "outcomes.csv", pd.concat(texts))
    outcomes = read_csv(out / "outcomes.csv")
    broken = {(row["defense"], row["drop_max"]) for row in diverged}
    whole = [key not in broken for key in zip(outcomes["defense"], outcomes["drop_max"], strict=True)]
    write_csv(out / "summary.csv", summarise(outcomes[whole], prepared.classes, prepared.positive))


def read_results(folder: str | Path) -> Results:
    """Read a finished study.

    Raises:
        MirstError: no such folder, or one without the files of a finished study, a table without one of its
            `COLUMNS`, or outcomes with a damaged row or without the rows of a trial.
    """
    folder = Path(folder)
    for name in ("study.yaml", "run.json", *TABLES):
        if not (folder / name).is_file():
            raise MirstError(f"{folder} lacks {name}: no finished study; run mirst run with --out {folder} first")
    spec = read_spec(folder)
    run = _read_run(folder)
    outcomes, summary, diverged = (read_csv(folder / name) for name in TABLES)
    classes = run["data"]["classes"]
    require_rows(folder / "outcomes.csv", spec, outcomes, classes)
    require_every_trial(folder / "outcomes.csv", spec, outcomes, diverged)
    present = [suite for suite in SUITES if (folder / f"{suite}.csv").exists()]
    rows = [read_csv(folder / f"{suite}.csv") for suite in present]
    for suite, table in zip(present, rows, strict=True):
        require_rows(folder / f"{suite}.csv", spec, table, classes)
    suites = {
        suite: table[table["attack"] == suite] for table in rows for suite in SUITES if suite in set(table["attack"])
    }
    checks = {suite: read_csv(folder / f"{suite}-checks.csv") for suite in present}
    distances = read_csv(folder / "distances.csv") if (folder / "distances.csv").exists() else None
    return Results(folder, spec, run, outcomes, summary, diverged, suites, checks, distances)


def read_spec(folder: Path) -> StudySpec:
    """The study that `folder` is of. No code that it names is imported: the folder may be somebody else's.

    Raises:
        MirstError: as `load_spec`.
    """
    return load_spec(folder / "study.yaml", trusted=False)


def same_trials(folder: Path, prepared: Prepared) -> bool:
    """Whether `folder` holds a study whose trials have the same numbers, for those defenses and seeds that it has."""
    sections = [name for name in prepared.spec.resolved() if name not in ("defenses", "seeds")]
    return (folder / "run.json").exists() and _difference(folder, prepared, sections) is None


def _read_run(folder: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        run["data"]["classes"], run["data"]["positive"], run["data"]["fingerprint"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise MirstError(f"{folder / 'run.json'} is damaged ({error}); run the study anew") from error
    return run


def _difference(folder: Path, prepared: Prepared, sections: Iterable[str]) -> str | None:
    """How the study in `folder` differs from this one, as the end of "it holds ..."."""
    try:
        before = read_spec(folder).resolved()  # with the defaults of keys that are younger than the folder
    except MirstError:
        return "a study that this version cannot read"
    plain = prepared.spec.resolved()
    for section in sections:
        if _comparable(section, before[section]) != _comparable(section, plain[section]):
            return f"another study (its {section} differ)"
    run = _read_run(folder)
    if run["data"]["fingerprint"] != _fingerprint(prepared):
        return "this study on other data"
    if _digest(run.get("weights")) != _digest(_weights(prepared)):
        return "this study from other weights"
    return None


def _digest(weights: dict[str, Any] | None) -> str:
    return "" if weights is None else str(weights["sha256"])


def _comparable(section: str, value: Any) -> Any:
    if section in ("out", "reuse"):
        return None
    if section == "model":
        return value["name"]  # what it starts from is told by content
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
        "weights": _weights(prepared),
        "data": {
            "images": len(prepared.records),
            "groups": len({record.group for record in prepared.records}),
            "per_class": {name: sum(record.label == name for record in prepared.records) for name in prepared.classes},
            "classes": list(prepared.classes),
            "positive": prepared.positive,
            "fingerprint": _fingerprint(prepared),
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


def _fingerprint(prepared: Prepared) -> str:
    """Of names, labels, groups and prepared pixels."""
    digest = hashlib.sha256(prepared.images.pixels.data)
    for record in prepared.records:
        digest.update(json.dumps([record.name, record.label, record.group, record.source]).encode())
    return digest.hexdigest()


def read_csv(path: Path) -> pd.DataFrame:
    """A table of ours: a class or image may be called NA.

    Raises:
        MirstError: it cannot be read, or lacks a column.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise MirstError(f"{path} is damaged ({error}); {AGAIN}") from error
    missing = [column for column in COLUMNS.get(path.name, []) if column not in table]
    if missing:
        raise MirstError(f"{path} lacks the column {missing[0]}; {AGAIN}")
    return table
