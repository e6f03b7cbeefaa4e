"""Every public name is on a reference page, with what is known of it."""

import ast
import functools
import importlib
import inspect
import re
from itertools import pairwise
from pathlib import Path

import pytest

import mirst
from tests.docs.pages import PAGES
from tests.packages import PACKAGES

SHOWN = {found for name, text in PAGES.items() for found in re.findall(r"^::: (mirst[\w.]*)$", text, re.MULTILINE)}
"""Modules of which a page shows all that they export."""


@functools.cache
def documented_constants() -> set[str]:
    """Names that a module assigns, with a string below."""
    found = set()
    for source in Path(mirst.__file__).parent.rglob("*.py"):
        body = ast.parse(source.read_text(encoding="utf-8")).body
        for one, after in pairwise(body):
            if isinstance(one, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                found |= {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_page_shows_every_public_name(package):
    """The site leaves out what has no docstring, so a name needs both."""
    module = importlib.import_module(f"mirst.{package}")
    assert module.__name__ in SHOWN
    constants = documented_constants()
    values = {name: getattr(module, name) for name in module.__all__}
    named = {name for name, value in values.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert [name for name in named if not values[name].__doc__] == []
    assert sorted(set(values) - named - constants) == []


def test_the_names_of_mirst_are_on_these_pages():
    homes = {getattr(mirst, name).__module__ for name in mirst.__all__ if name != "__version__"}
    assert len(homes) > 15
    assert {".".join(home.split(".")[:2]) for home in homes} <= SHOWN


def test_every_module_that_a_page_shows_exists():
    assert len(SHOWN) >= len(PACKAGES)
    assert all(importlib.import_module(name) for name in SHOWN)
