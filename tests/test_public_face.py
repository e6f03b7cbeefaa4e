"""What a user meets first: `import mirst`, its names, its types."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import mirst
from mirst.attacks import ATTACKS
from mirst.defenses import DEFENSES
from tests.packages import imported, module_names

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
SOURCE = Path(mirst.__file__).read_text(encoding="utf-8")


def lazy_names() -> list[str]:
    return [name for name in mirst.__all__ if name != "__version__"]


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


@pytest.mark.parametrize("code", ["import mirst", "import mirst; dir(mirst); mirst.__version__", "import mirst.cli"])
def test_importing_mirst_does_not_import_torch(code):
    heavy = ("torch", "pandas", "scipy", "sklearn")
    assert in_a_new_process(f"import sys; {code}; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_every_name_is_that_of_its_package():
    assert len(lazy_names()) > 20
    for name in lazy_names():
        value = getattr(mirst, name)
        assert value.__name__ == name
        assert getattr(importlib.import_module(value.__module__), name) is value
    assert set(lazy_names()) <= set(dir(mirst))


def test_what_a_notebook_needs_is_there():
    needed = {
        "fit",
        "evaluate",
        "robustness",
        "read_dataset",
        "build_model",
        "load_model",
        "PGD",
        "APGD",
        "MIRST",
        "RST",
    }
    assert needed <= set(lazy_names())


@pytest.mark.parametrize(("known", "shared"), [(ATTACKS, set()), (DEFENSES, {"mirst.defenses.ce"})])
def test_every_attack_and_defense_is_under_the_contract_that_they_do_not_import_one_another(known, shared):
    """`CE` is what every defense is in the warm-up."""
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    held = {module for contract in contracts if contract["type"] == "independence" for module in contract["modules"]}
    assert {cls.__module__ for cls in known.values()} - held == shared


def test_type_checkers_see_the_same_names():
    checked = next(
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    assert sorted(alias.asname for node in imports for alias in node.names) == sorted(lazy_names())
    for node in imports:
        for alias in node.names:
            assert getattr(importlib.import_module(node.module), alias.name) is getattr(mirst, alias.name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mirst' has no attribute 'fits'"):
        _ = mirst.fits


def test_no_module_is_shadowed_by_another_object_of_its_name():
    """`import mirst.x.y as y` must give the module, also after everything was imported."""
    names = [name for name in module_names() if imported(name) is not None]
    assert len(names) > 100
    shadowed = []
    for name in names[1:]:
        parent, _, last = name.rpartition(".")
        if not isinstance(getattr(sys.modules[parent], last), ModuleType):
            shadowed.append(name)
    assert shadowed == []


def test_the_package_is_marked_as_typed():
    assert Path(mirst.__file__).with_name("py.typed").is_file()
