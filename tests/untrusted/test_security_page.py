"""The table of threats in docs/security.md names modules and tests that exist, and leaves out no module."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import mirst.untrusted

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TABLE = re.search(r"\| threat \| module.*?\n\n", PAGE, re.DOTALL)
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE[0].splitlines()[2:] if line]
MODULES = [module.name for module in pkgutil.iter_modules(mirst.untrusted.__path__)]


def test_every_module_of_the_package_is_in_the_table():
    assert len(ROWS) >= len(MODULES) > 5
    assert set(MODULES) <= {row[1].strip("`") for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_module_and_the_test_of_a_row_exist(row):
    _, module, _, _, test = row
    name = module.strip("`")
    if name in MODULES:
        importlib.import_module(f"mirst.untrusted.{name}")
    else:
        package, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(package), last) or importlib.import_module(name)
    path, function = re.fullmatch(r"(?:`(tests/[\w/]+\.py)`)?(?:: )?(?:`(test_\w+)`)?", test).groups()
    source = (ROOT / (path or f"tests/untrusted/test_{name}.py")).read_text(encoding="utf-8")
    assert function is None or f"def {function}(" in source
