"""YAML: plain values only, with bounds on size, depth and expanded aliases."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from mirst.errors import MirstError

MAX_BYTES = 2**20
MAX_NODES = 20_000
"""Values in total. Those of an alias count at every place where it is used."""
MAX_DEPTH = 30
MAX_LENGTH = 10_000
"""Characters of a single value."""
NAMES = frozenset({"classes", "positive", "labels", "relabel", "held_out"})
"""Keys whose values, except null, are names of classes or images: `yes` and `1.0` are read as texts."""
READ_AS_VALUES = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))
MAX_QUOTED = 300
"""Characters of an error message: errors quote the file."""


def read_yaml(path: Path) -> Any:
    """The content of the file.

    Raises:
        MirstError: it cannot be read, is not YAML, has a key twice, or exceeds a bound.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MirstError(f"cannot read {path} ({error.strerror})") from error
    try:
        return _parsed(content.decode("utf-8"))
    except ValueError as error:
        raise MirstError(f"{path} is not valid YAML: {error}") from error


def parse_yaml(text: str, key: str = "") -> Any:
    """The value of a text from the command line.

    Args:
        key: of the value; see `NAMES`.

    Raises:
        MirstError: as `read_yaml`.
    """
    try:
        return _parsed(text, key)
    except ValueError as error:
        shown = text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]} ..."
        raise MirstError(f"{shown} is not a valid YAML value: {error}") from error


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
        raise ValueError(" ".join(str(error).split())[:MAX_QUOTED]) from error
    except Exception as error:  # an impossible date, an empty !!int: any error of Python
        raise ValueError(f"a value in it cannot be read: {error}"[:MAX_QUOTED]) from error


class _Loader(yaml.SafeLoader):
    """Loads plain values and counts them while the tree is built."""

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
            raise yaml.YAMLError("an alias in it is inside the value that it refers to")
        else:
            self.nodes += self.sizes[node]
        if self.nodes > MAX_NODES:
            raise yaml.YAMLError(f"it contains more than {MAX_NODES} values, with aliases expanded")
        return node


def _keep_names(node: yaml.Node, are_names: bool) -> None:
    """Turn the values below the keys `NAMES` into texts; null stays null."""
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
            raise yaml.YAMLError(
                f"it has the key {twice[0]} twice; keep one of them (line {node.start_mark.line + 1} on)"
            )
