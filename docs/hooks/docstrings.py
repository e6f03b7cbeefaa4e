"""What griffe does not do: examples outside a section `Examples` become code, and long values are left out."""

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n?)*", re.MULTILINE)
LONGEST = 300
"""Characters of a value, such as that of a type alias."""


class Docstrings(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
        if obj.is_attribute and len(str(obj.value)) > LONGEST:
            obj.value = None


def fenced(docstring: str) -> str:
    """The docstring with a fence around each session of the interpreter."""
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", docstring)
