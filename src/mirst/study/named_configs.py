"""Defenses, attacks and extensions as a study lists them.

A list entry is `pgd`, `{name: pgd, steps: 50, label: long}`, or a dataclass of the user's own with its fields,
`{name: my_package.module:MyAttack, steps: 50}`.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import PydanticUserError, TypeAdapter

from mirst.attacks import ATTACKS, Attack
from mirst.defenses import DEFENSES, Defense
from mirst.defenses.base_classes import require_defense
from mirst.errors import MirstError, meant, suggestion
from mirst.nn.factory import described, import_object, in_words
from mirst.study.numbers import no_booleans
from mirst.training.extensions import EXTENSIONS, Extension
from mirst.training.extensions.base import require_extension

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True)
class NamedDefense:
    """One row of the comparison."""

    name: str
    label: str
    drop_max: bool
    defense: Defense

    @property
    def title(self) -> str:
        return f"{self.label}+dm" if self.drop_max else self.label


@dataclasses.dataclass(frozen=True)
class NamedAttack:
    name: str
    label: str
    attack: Attack


@dataclasses.dataclass(frozen=True)
class NamedExtension:
    name: str
    extension: Extension


@dataclasses.dataclass(frozen=True, repr=False)
class NotImported:
    """Replaces an object of a class that must not be imported, because somebody else may have named it.

    Its numbers can be read, as `eps`; it cannot be called.

    >>> NotImported("package.module:Attack", {"eps": 0.1, "steps": 5}).eps
    0.1
    """

    class_name: str
    settings: dict[str, Any]

    def __getattr__(self, name: str) -> float:
        value = vars(self).get("settings", {}).get(name)
        if isinstance(value, int | float):
            return value
        raise AttributeError(name)

    def __call__(self, *_: object, **__: object) -> Any:
        raise MirstError(f"{self.class_name} is not imported from a results folder; run the study that names it")

    def __hash__(self) -> int:
        return hash(self.class_name)

    def __repr__(self) -> str:
        return f"{self.class_name}({', '.join(f'{key}={value!r}' for key, value in self.settings.items())})"


def defense_entry(raw: object, *, trusted: bool = True) -> NamedDefense:
    """The defense of a list entry.

    Args:
        trusted: whether a class of the user's own is imported, which runs its code; if not, a `NotImported` stands
            for its object.

    Raises:
        ValueError: an unknown name or field, a value out of range, or a class that is no defense.
    """
    name, settings = _name_and_settings(raw)
    label = settings.pop("label", _default_label(name))
    drop_max = TypeAdapter(bool).validate_python(settings.pop("drop_max", False))
    defense = _object("defense", DEFENSES, name, settings, trusted)
    if not isinstance(defense, NotImported):
        require_defense(defense)
        _require_frozen(name, defense)
    return NamedDefense(name, _checked_label(label), drop_max, defense)


def attack_entry(raw: object, *, trusted: bool = True) -> NamedAttack:
    """The attack of a list entry; arguments and errors as for `defense_entry`."""
    name, settings = _name_and_settings(raw)
    label = settings.pop("label", _default_label(name))
    attack = _object("attack", ATTACKS, name, settings, trusted)
    if not callable(attack):
        raise ValueError(f"{name} has no __call__; an attack is called on a model, images and labels")
    if not isinstance(getattr(attack, "eps", None), int | float):
        raise ValueError(
            f"{name} has no eps; add the field eps, the radius of its ball, in units of the [0, 1] pixel range"
        )
    _require_frozen(name, attack)
    return NamedAttack(name, _checked_label(label), attack)


def extension_entry(raw: object, *, trusted: bool = True) -> NamedExtension:
    """The extension of a list entry; arguments and errors as for `defense_entry`."""
    name, settings = _name_and_settings(raw)
    extension = _object("extension", EXTENSIONS, name, settings, trusted)
    if not isinstance(extension, NotImported):
        require_extension(extension)
    return NamedExtension(name, extension)


def _name_and_settings(raw: object) -> tuple[str, dict[str, Any]]:
    settings = dict(raw) if isinstance(raw, dict) else {"name": raw}
    return str(settings.pop("name", None)), settings


def _default_label(name: str) -> str:
    """The name, or the name of the class in lower case."""
    return name.rpartition(":")[2].lower() if is_own(name) else name


def _checked_label(label: object) -> str:
    if not isinstance(label, str) or not LABEL.fullmatch(label) or label == "none":
        raise ValueError(
            f"label {label} may contain only letters, digits, '_', '.' and '-', and must not be the word none"
        )
    return label


def is_own(name: str) -> bool:
    """Whether `name` is a class of the user's own, `package.module:Class`.

    >>> is_own("my_package.module:MyAttack"), is_own("pgd")
    (True, False)
    """
    return ":" in name


def _object(kind: str, known: Mapping[str, type], name: str, settings: dict[str, Any], trusted: bool) -> Any:
    values = {key: number(value) for key, value in settings.items()}
    if not is_own(name):
        if name not in known:
            raise ValueError(
                f"unknown {kind} {name}{meant(name, list(known))}; choose {', '.join(known)}, or your own "
                "package.module:Class"
            )
        return _instance(known[name], name, values)
    if not trusted:
        return NotImported(name, values)
    found = import_object(name, "Class")
    if not isinstance(found, type):
        raise ValueError(f"{name} is {described(found)}; give a dataclass")
    if not dataclasses.is_dataclass(found):
        raise ValueError(f"{name} is not a dataclass; decorate it with dataclasses.dataclass")
    try:
        configured = _instance(found, name, values)
    except ValueError:
        raise
    except (PydanticUserError, NameError) as error:
        raise ValueError(
            f"the fields of {name} have types that YAML cannot fill ({in_words(error)}); use numbers, texts, tuples of "
            "them, or dataclasses"
        ) from error
    except Exception as error:
        raise ValueError(f"{name} raised {in_words(error)}") from error
    _require_writable(name, configured)
    return configured


def _instance(kind: Any, name: str, values: dict[str, Any]) -> Any:
    fields = [field.name for field in dataclasses.fields(kind) if field.init]
    for key in values:
        if key not in fields:
            raise ValueError(f"{name} has no field {key}{suggestion(key, fields) if fields else ''}")
    return TypeAdapter(kind).validate_python(no_booleans(kind, values))


def _require_writable(name: str, configured: Any) -> None:
    """A study is written with all of its settings, and its trials are looked up by them."""
    try:
        json.dumps(_listed(_settings(configured)))
    except TypeError as error:
        raise ValueError(f"a field of {name} cannot be written as YAML ({error}); use numbers and texts") from error


def _require_frozen(name: str, configured: object) -> None:
    try:
        hash(configured)
    except TypeError as error:
        raise ValueError(
            f"{name} is not hashable ({error}); make it a frozen dataclass of tuples, not lists"
        ) from error


def number(value: Any) -> Any:
    """`5/255` as a number; anything else as it is."""
    match = re.fullmatch(r"\s*([\d.]+)\s*/\s*([\d.]+)\s*", value) if isinstance(value, str) else None
    try:
        return float(match[1]) / float(match[2]) if match else value
    except (ValueError, ZeroDivisionError):
        return value


def plain(entry: Any, configured: Any, own: tuple[str, ...]) -> dict[str, Any]:
    """What `defense_entry`, `attack_entry` or `extension_entry` turns back into the entry.

    Args:
        configured: the defense, attack or extension of `entry`.
        own: the other attributes of `entry` to write.
    """
    settings = configured.settings if isinstance(configured, NotImported) else _settings(configured)
    return {name: getattr(entry, name) for name in own} | {key: _listed(value) for key, value in settings.items()}


def _settings(configured: Any) -> dict[str, Any]:
    values = dataclasses.asdict(configured)
    return {field.name: values[field.name] for field in dataclasses.fields(configured) if field.init}


def _listed(value: Any) -> Any:
    """`value` with lists for tuples, at any depth."""
    if isinstance(value, dict):
        return {key: _listed(one) for key, one in value.items()}
    return [_listed(one) for one in value] if isinstance(value, list | tuple) else value
