"""Studies from YAML files and command lines, with one sentence for whatever is wrong in them."""

import dataclasses
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mirst.attacks import Attack
from mirst.errors import MirstError, most_similar, suggestion
from mirst.study.layout import StudyFolder
from mirst.study.named_configs import NamedDefense, attack_entry, defense_entry, number
from mirst.study.shipped import find_study, shipped_studies
from mirst.study.spec import TRUSTED, StudySpec, TrialTraining
from mirst.study.spec_sections import SourceSpec
from mirst.untrusted.yaml_files import parse_yaml, read_yaml

Entry = TypeVar("Entry")
SHAPES = {
    **dict.fromkeys(("model_type", "dataclass_type", "dict_type"), "It must have keys"),
    "tuple_type": "It must be a list",
    "path_type": "It must be a path",
}
"""By type, errors whose text from pydantic names Python classes."""


def load_spec(path: str | Path | None, overrides: Sequence[str] = (), *, trusted: bool = True) -> StudySpec:
    """Read a study from a YAML file, or a shipped study by its name, `key.key=value` overrides applied.

    A relative path of data is resolved from the folder of the YAML; in an override, from the working directory.

    Args:
        trusted: whether the modules of `package.module:Class` entries are imported, which runs their code. If not,
            `NotImported` objects stand for the defenses, attacks and extensions from there.

    Raises:
        MirstError: no such file, no YAML, an unknown key, a value out of range; the sentence names
            file and key.
    """
    where = "study" if path is None else str(path)
    file = None if path is None else find_study(path)
    raw = {} if file is None else _read_study(file)
    if file is not None:
        _resolve_data(raw, file.absolute().parent)
    for override in overrides:
        _apply(raw, override)
    _resolve_data(raw, Path.cwd())
    try:
        return StudySpec.model_validate(raw, context={TRUSTED: trusted})
    except ValidationError as error:
        raise MirstError(f"{where}: {_sentence(error)}") from error


def overridden(overrides: Sequence[str]) -> set[str]:
    """The keys that overrides set, `section.key` where they set a key of a section.

    >>> sorted(overridden(["data.size=64", "training={fast: false}", "seeds=[1]"]))
    ['data.size', 'seeds', 'training.fast']
    """
    raw: dict[str, Any] = {}
    for override in overrides:
        _apply(raw, override)
    sections = {key for key, value in raw.items() if isinstance(value, dict)}
    return (raw.keys() - sections) | {f"{section}.{key}" for section in sections for key in raw[section]}


def parse_defense(text: str, drop_max: bool = False) -> NamedDefense:
    """One defense from the command line: `rst`, or `{name: rst, alpha: 2}`.

    Raises:
        MirstError: an unknown name or field, a value out of range.
    """
    raw = parse_yaml(text)
    settings = raw if isinstance(raw, dict) else {"name": raw}
    return _one_sentence(f"defense {text}", defense_entry, settings | {"drop_max": drop_max})


def parse_attacks(texts: Sequence[str]) -> dict[str, Attack]:
    """Attacks from the command line, by label: `pgd`, or `{name: pgd, steps: 100, label: pgd-100}`.

    Raises:
        MirstError: an unknown name or field, a value out of range, a label twice.
    """
    attacks: dict[str, Attack] = {}
    for text in texts:
        entry = _one_sentence(f"attack {text}", attack_entry, parse_yaml(text))
        if entry.label in attacks:
            raise MirstError(f"attack {entry.label} is given twice; add a label, as in {{name: pgd, label: pgd-2}}")
        attacks[entry.label] = entry.attack
    return attacks


def load_source(path: Path, labels: str | None = None, source: str | None = None) -> SourceSpec:
    """One data set from the command line, its path relative to the working directory.

    Args:
        labels: new names of its classes in YAML: `{theirs: ours, other: null}`.
        source: its name.

    Raises:
        MirstError: labels that are no mapping to names, or an empty name.
    """
    raw = {"path": str(path.absolute()), "labels": labels and parse_yaml(labels, "labels"), "source": source}
    try:
        return SourceSpec.model_validate(raw)
    except ValidationError as error:
        raise MirstError(f"--{_sentence(error)}") from error


def parse_eps(text: str) -> list[float]:
    """Radii from the command line: `1/255,5/255,0.1`.

    Raises:
        MirstError: something that is no number.
    """
    try:
        return [float(number(part)) for part in text.split(",")]
    except ValueError as error:
        raise MirstError(f"--eps {text}: write radii as 1/255,2/255,5/255") from error


def _one_sentence(what: str, parse: Callable[[object], Entry], raw: object) -> Entry:
    try:
        return parse(raw)
    except ValidationError as error:
        raise MirstError(f"{what}: {_sentence(error)}") from error
    except ValueError as error:
        raise MirstError(f"{what}: {error}") from error


def _read_study(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MirstError(_no_study(path))
    try:
        raw = read_yaml(path)
    except MirstError as error:
        if path.suffix.lower() in (".yaml", ".yml"):
            raise
        raise MirstError(f"{error}; give a study (a YAML file), and a data set with --data") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise MirstError(f"{path} must contain keys such as data, training and defenses; give a data set with --data")
    return raw


def _no_study(path: Path) -> str:
    """Why there is no study at `path`, and what to write instead."""
    if StudyFolder(path).spec.is_file():
        return (
            f"{path} is a results folder, not a study; give the study in it, {StudyFolder(path).spec}, "
            f"with --out {path}"
        )
    if path.is_dir():
        return f"{path} is a folder, not a study; give a study (a YAML file), and the images with --data {path}"
    if path.exists():
        return f"{path} is not a regular file; give a study (a YAML file)"
    there = sorted(one.name for one in path.absolute().parent.glob("*.y*ml"))
    close = most_similar(path.name, [*there, *shipped_studies()])
    known = f"did you mean {close}?" if close else "give a YAML file, or a name that mirst studies lists"
    return f"study {path.resolve()} does not exist; {known}"


def _resolve_data(raw: dict[str, Any], folder: Path) -> None:
    """Make the relative paths of data absolute, from `folder`; whatever is no path is judged later."""
    data = raw.get("data")
    lists = [data.get(key) for key in ("sources", "extra")] if isinstance(data, dict) else []
    for place in (data, *(one for each in lists if isinstance(each, list) for one in each)):
        if isinstance(place, dict) and isinstance(place.get("path"), str) and place["path"]:
            path = Path(place["path"])
            place["path"] = str(folder / (path.expanduser() if path.parts[:1] == ("~",) else path))


def _apply(raw: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise MirstError(f"--set {override}: write it as key=value, for example training.epochs=5")
    *parents, last = dotted.split(".")
    node: Any = raw
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        section = ".".join(parents)
        raise MirstError(f"--set {override}: {section} has no sub-keys; set {section} itself")
    node[last] = parse_yaml(text, last)


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        *parents, key = first["loc"]
        known = _keys_of([str(part) for part in parents])
        return f"unknown key {place}{suggestion(str(key), known)}"
    message = SHAPES.get(first["type"], first["msg"].removeprefix("Value error, "))
    given = "" if first["type"] == "value_error" else f" (it is {reprlib.repr(first['input'])})"
    return f"{place}: {message[0].lower()}{message[1:]}{given}" if place else message


def _keys_of(parents: list[str]) -> list[str]:
    if not parents:
        return list(StudySpec.model_fields)
    if parents[0] == "data" and len(parents) > 1:
        return list(SourceSpec.model_fields)
    section = StudySpec.model_fields[parents[0]].annotation
    if section is TrialTraining:
        return [field.name for field in dataclasses.fields(TrialTraining)]
    return list(getattr(section, "model_fields", {}))
