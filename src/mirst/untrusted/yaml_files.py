"""YAML of any origin: plain values alone, within bounds."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from mirst.errors import MirstError

MAX_BYTES = 2**20
MAX_NODES = 20_000
"""Values in all, those of an alias counted wherever it stands."""
MAX_DEPTH = 30
MAX_LENGTH = 10_000
"""Characters of a single value."""
NAMES = frozenset({"classes", "positive", "labels", "relabel"})
"""Keys under which every value but null is the name of a class or image: `yes` and `1.0` are read as written."""
READ_AS_VALUES = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))
SAID = 300
"""Characters of what is wrong: errors quote what they met."""


def read_yaml(path: Path) -> Any:
    """What the file says.

    Raises:
        MirstError: it cannot be read, is no YAML, says a key twice, or is beyond the bounds.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MirstError(f"cannot read {path} ({error.strerror})") from error
    try:
        return _parsed(content.decode("utf-8"))
    except ValueError as error:
        raise MirstError(f"{path} is no valid YAML: {error}") from error


def parse_yaml(text: str, key: str = "") -> Any:
    """What a text of the command line says.

    Args:
        key: under which the value belongs; see `NAMES`.

    Raises:
        MirstError: as `read_yaml`.
    """
    try:
        return _parsed(text, key)
    except ValueError as error:
        shown = text if len(text) <= SAID else f"{text[:SAID]} ..."
        raise MirstError(f"{shown} is no valid YAML value: {error}") from error


def _parsed(text: str, key: str = "") -> Any:
    """Raises `ValueError` for whatever is wrong."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _keep_names(node, key in NAMES)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:SAID]) from error
    except Exception as error:  # a date that the calendar lacks, an empty !!int: whatever Python's own raise
        raise ValueError(f"a value in it cannot be read: {error}"[:SAID]) from error


class _Loader(yaml.SafeLoader):
    """Plain values, counted as the tree of them grows."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.nodes = 0
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        is_alias = self.check_event(yaml.AliasEvent)
        before = self.nodes
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} deep")
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if not is_alias:
            _require_sane(node)
            self.nodes += 1
            self.sizes[node] = self.nodes - before
        elif node not in self.sizes:
            raise yaml.YAMLError("an alias in it stands inside of what it refers to")
        else:
            self.nodes += self.sizes[node]
        if self.nodes > MAX_NODES:
            raise yaml.YAMLError(f"it holds more than {MAX_NODES} values, aliases written out")
        return node


def _keep_names(node: yaml.Node, are_names: bool) -> None:
    """Make texts of the values below the keys `NAMES`; null stays null."""
    if isinstance(node, yaml.ScalarNode) and are_names and node.tag in READ_AS_VALUES:
        node.tag = "tag:yaml.org,2002:str"
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_names(item, are_names)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _keep_names(key, are_names)
            _keep_names(value, are_names or (isinstance(key, yaml.ScalarNode) and key.value in NAMES))


def _require_sane(node: yaml.Node) -> None:
    if isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_LENGTH:
        raise yaml.YAMLError(f"a value in it is longer than {MAX_LENGTH} characters")
    if isinstance(node, yaml.MappingNode):
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            raise yaml.YAMLError(f"it says {twice[0]} twice; keep one of them (line {node.start_mark.line + 1} on)")
