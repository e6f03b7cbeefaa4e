"""The study as YAML: which data, model, training, defenses, attacks, folds and seeds."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from mirst.attacks import ATTACKS, Attack
from mirst.defenses import DEFENSES, Defense
from mirst.errors import MirstError
from mirst.training import Training

Entry = TypeVar("Entry")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSpec(_Section):
    path: Path | None = None
    """Folder that `mirst.data.read_dataset` recognises."""
    size: int = Field(64, ge=16, le=2048)
    """Side of the letterboxed images."""
    channels: Literal[1, 3] = 1
    """Gray, or colour."""
    classes: tuple[str, ...] | None = None
    """Classes to keep; all by default."""
    positive: str | None = None
    """Class that sensitivity counts; "malignant" by default."""


class ModelSpec(_Section):
    name: str = "resnet_tiny"
    """For `mirst.nn.build_model`."""
    weights: str = "random"
    """Initial weights: random, or a state-dict file of torchvision's layout."""


class FoldSpec(_Section):
    count: int = Field(5, ge=2)
    kind: Literal["group", "random"] = "group"
    """Whole groups, or image by image as in the paper, which leaks near-duplicates."""
    seed: int = Field(0, ge=0, lt=2**31)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialTraining(Training):
    """The settings of `fit`, and those of a trial around it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    batch_size: int = 16
    augment: bool = True
    """Random flips and small shifts."""
    val_fraction: float = 0.15
    """Share of the training fold held out to select and to set the threshold; 0 holds out none."""
    threads: int = 1
    """CPU threads of a trial, fixed so that parallel trials change no number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1 or self.threads < 1:
            raise MirstError(f"batch_size is {self.batch_size} and threads {self.threads}; both must be at least 1")
        if not 0 <= self.val_fraction <= 0.5:
            raise MirstError(f"val_fraction is {self.val_fraction}; it must lie between 0 and 0.5")
        if self.needs_validation and self.val_fraction == 0:
            raise MirstError(
                f"select={self.select} and threshold={self.threshold} need validation images; "
                "raise val_fraction above 0"
            )


@dataclasses.dataclass(frozen=True)
class DefenseEntry:
    """One row of the comparison."""

    name: str
    label: str
    drop_max: bool
    defense: Defense

    @property
    def title(self) -> str:
        return f"{self.label}+dm" if self.drop_max else self.label


@dataclasses.dataclass(frozen=True)
class AttackEntry:
    name: str
    label: str
    attack: Attack


def _parse(raw: object, known: Mapping[str, Any], kind: str) -> tuple[dict[str, Any], Any]:
    """Turn `pgd` or `{name: pgd, steps: 50, label: ...}` into its own keys and a dataclass instance."""
    settings = dict(raw) if isinstance(raw, dict) else {"name": raw}
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown {kind} {name}; choose {', '.join(known)}")
    fields = [field.name for field in dataclasses.fields(known[name])]
    own = {"name": name, "label": settings.pop("label", name)}
    if kind == "defense":
        own["drop_max"] = TypeAdapter(bool).validate_python(settings.pop("drop_max", False))
    if not isinstance(own["label"], str) or not LABEL.fullmatch(own["label"]) or own["label"] == "none":
        raise ValueError(f"label {own['label']} must be letters, digits, '_', '.', '-', and not none")
    for key in settings:
        if key not in fields:
            raise ValueError(f"{name} has no field {key}{_suggestion(key, fields)}")
    values = {key: _number(value) for key, value in settings.items()}
    return own, TypeAdapter(known[name]).validate_python(values)


def _parse_defense(raw: object) -> DefenseEntry:
    own, defense = _parse(raw, DEFENSES, "defense")
    return DefenseEntry(defense=defense, **own)


def _parse_attack(raw: object) -> AttackEntry:
    own, attack = _parse(raw, ATTACKS, "attack")
    return AttackEntry(attack=attack, **own)


def _number(value: object) -> object:
    """`5/255` as a number; anything else as it is."""
    match = re.fullmatch(r"\s*([\d.]+)\s*/\s*([\d.]+)\s*", value) if isinstance(value, str) else None
    try:
        return float(match[1]) / float(match[2]) if match else value
    except (ValueError, ZeroDivisionError):
        return value


class StudySpec(_Section):
    """Everything that decides the numbers of a study."""

    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    training: TrialTraining = TrialTraining()
    defenses: tuple[Annotated[DefenseEntry, PlainValidator(_parse_defense)], ...] = Field(
        ("ce", "rst", "mirst", {"name": "mirst", "drop_max": True}), validate_default=True, min_length=1
    )
    attacks: tuple[Annotated[AttackEntry, PlainValidator(_parse_attack)], ...] = Field(
        ("fgsm", "pgd", "cw"), validate_default=True, min_length=1
    )
    folds: FoldSpec = FoldSpec()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field((0,), min_length=1)
    out: Path | None = None
    """Results folder; `results/NAME` for `NAME.yaml` by default."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for key, names in (
            ("defenses", [entry.title for entry in self.defenses]),
            ("attacks", [entry.label for entry in self.attacks]),
            ("seeds", [str(seed) for seed in self.seeds]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"{key} lists {', '.join(sorted(twice))} twice; remove one or give it its own label")
        return self

    def resolved(self) -> dict[str, Any]:
        """Plain values, defaults filled in; `StudySpec.model_validate` reads them back."""
        plain = self.model_dump(mode="json", exclude={"defenses", "attacks", "training"})
        plain["training"] = dataclasses.asdict(self.training)
        plain["defenses"] = [_plain(entry, entry.defense, ("name", "label", "drop_max")) for entry in self.defenses]
        plain["attacks"] = [_plain(entry, entry.attack, ("name", "label")) for entry in self.attacks]
        return plain


def load_spec(path: str | Path | None, overrides: Sequence[str] = ()) -> StudySpec:
    """Read a study from YAML, `key.key=value` overrides applied.

    Raises:
        MirstError: no such file, no YAML, an unknown key, a value out of range; the sentence names
            file and key.
    """
    where = "study" if path is None else str(path)
    raw = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply(raw, override)
    try:
        return StudySpec.model_validate(raw)
    except ValidationError as error:
        raise MirstError(f"{where}: {_sentence(error)}") from error


def parse_defense(text: str, drop_max: bool = False) -> DefenseEntry:
    """One defense from the command line: `rst`, or `{name: rst, alpha: 2}`.

    Raises:
        MirstError: an unknown name or field, a value out of range.
    """
    raw = _yaml_value(text)
    settings = raw if isinstance(raw, dict) else {"name": raw}
    return _one_sentence(f"defense {text}", _parse_defense, settings | {"drop_max": drop_max})


def parse_attacks(texts: Sequence[str]) -> dict[str, Attack]:
    """Attacks from the command line, by label: `pgd`, or `{name: pgd, steps: 100, label: pgd-100}`.

    Raises:
        MirstError: an unknown name or field, a value out of range, a label twice.
    """
    attacks: dict[str, Attack] = {}
    for text in texts:
        entry = _one_sentence(f"attack {text}", _parse_attack, _yaml_value(text))
        if entry.label in attacks:
            raise MirstError(f"attack {entry.label} is given twice; add a label, as in {{name: pgd, label: pgd-2}}")
        attacks[entry.label] = entry.attack
    return attacks


def _one_sentence(what: str, parse: Callable[[object], Entry], raw: object) -> Entry:
    try:
        return parse(raw)
    except ValidationError as error:
        raise MirstError(f"{what}: {_sentence(error)}") from error
    except ValueError as error:
        raise MirstError(f"{what}: {error}") from error


def _yaml_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MirstError(f"{text} is no valid YAML value") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MirstError(f"cannot read the study {path} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MirstError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise MirstError(f"{path} must hold keys such as data, training and defenses")
    return raw


def _apply(raw: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise MirstError(f"--set {override}: write it as key=value, training.epochs=5 for one")
    *parents, last = dotted.split(".")
    node: Any = raw
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise MirstError(f"--set {override}: {'.'.join(parents)} holds no keys of its own; set it as a whole")
    node[last] = _yaml_value(text)


def _plain(entry: Any, settings: Any, own: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in own} | dataclasses.asdict(settings)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        *parents, key = first["loc"]
        known = _keys_of([str(part) for part in parents])
        return f"unknown key {place}{_suggestion(str(key), known)}"
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, ValidationError):
        return f"{place}.{_sentence(inner)}"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "value_error" else f" (it is {first['input']!r})"
    return f"{place}: {message[0].lower()}{message[1:]}{given}" if place else message


def _keys_of(parents: list[str]) -> list[str]:
    if not parents:
        return list(StudySpec.model_fields)
    section = StudySpec.model_fields[parents[0]].annotation
    if section is TrialTraining:
        return [field.name for field in dataclasses.fields(TrialTraining)]
    return list(getattr(section, "model_fields", {}))


def _suggestion(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
