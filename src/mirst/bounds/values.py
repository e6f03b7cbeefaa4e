"""What the nodes of a traced graph stand for while it is turned into operations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from mirst.bounds.operations import Operation


class Refused(Exception):
    """A layer or call with options that have no rule; the text says which."""


@dataclass(frozen=True)
class Ref:
    """The value of a step."""

    step: int


@dataclass(frozen=True)
class Constant:
    """A number or tensor that does not depend on the images, read anew in each pass."""

    read: Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """The shape of a value; only its first number, `BATCH`, can be used."""


@dataclass(frozen=True)
class Batch:
    """The number of images."""


Value = Ref | Constant | Shape | Batch


@dataclass(frozen=True)
class Arguments:
    """Of a call: `Value`s, plain Python values, and tuples and lists of both."""

    positional: tuple[Any, ...]
    keywords: dict[str, Any]

    def refs(self) -> list[Ref]:
        """The values of steps among them."""
        return [value for value in _flat((self.positional, self.keywords)) if isinstance(value, Ref)]

    def depend_on_shape(self) -> bool:
        """Whether a shape or the number of images is among them."""
        return any(isinstance(value, Shape | Batch) for value in _flat((self.positional, self.keywords)))

    def read(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of a call without any step, with the constants read."""
        return _read(self.positional), _read(self.keywords)

    def named(self, *names: str, **defaults: Any) -> tuple[Any, ...]:
        """The arguments in the order of `names`, positional or by keyword.

        Raises:
            Refused: one is missing without a default, there are others, or one is a shape.
        """
        if self.depend_on_shape():
            raise Refused("an argument is the number of images")
        given = dict(zip(names, self.positional, strict=False))
        if len(self.positional) > len(names) or set(self.keywords) - set(names):
            raise Refused("its arguments are unknown")
        given = {**defaults, **given, **self.keywords}
        if set(given) != set(names):
            raise Refused("an argument is missing")
        return tuple(given[name] for name in names)


class Builder(Protocol):
    """Collects steps; see `mirst.bounds.graph`."""

    def add(self, operation: Operation, *inputs: Ref) -> Ref:
        """Append a step; returns its value."""

    def layer(self, layer: nn.Module, name: str, source: Ref) -> Ref:
        """Append the steps of a layer of a value; returns the value of the last one."""


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    if isinstance(value, tuple | list):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _read(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_read(part) for part in value) if type(value) in (tuple, list) else [*map(_read, value)]
    return value.read() if isinstance(value, Constant) else value
