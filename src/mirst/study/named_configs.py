"""Defenses and attacks as a study lists them: `pgd`, or `{name: pgd, steps: 50, label: long}`."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from mirst.attacks import ATTACKS, Attack
from mirst.defenses import DEFENSES, Defense
from mirst.errors import suggestion
from mirst.study.numbers import no_booleans

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
            raise ValueError(f"{name} has no field {key}{suggestion(key, fields)}")
    values = no_booleans(known[name], {key: number(value) for key, value in settings.items()})
    return own, TypeAdapter(known[name]).validate_python(values)


def defense_entry(raw: object) -> NamedDefense:
    own, defense = _parse(raw, DEFENSES, "defense")
    return NamedDefense(defense=defense, **own)


def attack_entry(raw: object) -> NamedAttack:
    own, attack = _parse(raw, ATTACKS, "attack")
    return NamedAttack(attack=attack, **own)


def number(value: Any) -> Any:
    """`5/255` as a number; anything else as it is."""
    match = re.fullmatch(r"\s*([\d.]+)\s*/\s*([\d.]+)\s*", value) if isinstance(value, str) else None
    try:
        return float(match[1]) / float(match[2]) if match else value
    except (ValueError, ZeroDivisionError):
        return value


def plain(entry: Any, settings: Any, own: tuple[str, ...]) -> dict[str, Any]:
    """What `defense_entry` or `attack_entry` turns back into the entry."""
    values = {name: getattr(entry, name) for name in own} | dataclasses.asdict(settings)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
