"""Models by name."""

import importlib
import sys
import textwrap

import pytest
from torch import nn

from mirst.errors import MirstError
from mirst.nn import is_factory, load_factory

MODELS = """
    from torch import nn
    import torch

    NUMBER = 3
    INSTANCE = nn.Linear(2, 2)

    def make():
        return nn.Flatten()

    def needs(width):
        return nn.Linear(width, 2)

    def forgets():
        nn.Flatten()

    def number():
        return 3

    def fails():
        raise FileNotFoundError("no weights\\nat all")

    def silent():
        raise RuntimeError

    def leaves():
        raise SystemExit(2)

    def late():
        import helper
        return helper.make()
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Writes modules into the working directory, and forgets them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


def refusal(name):
    with pytest.raises(MirstError) as caught:
        load_factory(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_factory_in_the_working_directory(modules):
    modules(foreign_nets=MODELS, helper=MODELS)
    assert isinstance(load_factory("foreign_nets:make"), nn.Flatten)
    assert isinstance(load_factory("foreign_nets:late"), nn.Flatten)
    assert load_factory("foreign_nets:INSTANCE") is importlib.import_module("foreign_nets").INSTANCE


def test_a_factory_gets_its_arguments(modules):
    modules(foreign_nets=MODELS)
    assert load_factory("foreign_nets:needs", width=7).in_features == 7
    with pytest.raises(MirstError, match="it is called with depth=7 and must return"):
        load_factory("foreign_nets:needs", depth=7)


def test_a_factory_in_a_package(tmp_path, monkeypatch, modules):
    package = tmp_path / "elsewhere" / "foreign_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text("from torch.nn import Flatten")
    monkeypatch.syspath_prepend(package.parent)
    assert isinstance(load_factory("foreign_package.nets:Flatten"), nn.Flatten)
    assert "there is no module foreign_package.net;" in refusal("foreign_package.net:Flatten")
    assert "there is no module foreign_packages;" in refusal("foreign_packages.nets:Flatten")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("foreign_nets", "foreign_nets is not of the form package.module:factory"),
        (":make", ":make is not of the form"),
        ("foreign_nets:", "is not of the form"),
        ("foreign-nets:make", "is not of the form"),
        ("foreign_nets:make:it", "is not of the form"),
        ("foreign_nets.py:make", "package.module:factory; did you mean foreign_nets:make?"),
        ("./sub/foreign_nets.py:make", "did you mean sub.foreign_nets:make?"),
        ("no_such_nets:make", "there is no module no_such_nets; install it, set PYTHONPATH, or run mirst from"),
        ("foreign_nets:mke", "foreign_nets has no mke; did you mean make?"),
        ("foreign_nets:zzz", "foreign_nets has no zzz; known values are INSTANCE, make, needs"),
        ("empty:make", "empty has no make; it defines no function"),
        ("foreign_nets:NUMBER", "foreign_nets:NUMBER is an int; name a function that returns the model"),
        (
            "foreign_nets:needs",
            "TypeError: needs() missing 1 required positional argument: 'width'; it is called without",
        ),
        ("foreign_nets:fails", "foreign_nets:fails raised FileNotFoundError: no weights at all; it is called"),
        ("foreign_nets:silent", "raised RuntimeError; it is called"),
        ("foreign_nets:leaves", "raised SystemExit: 2; it is called"),
        ("foreign_nets:forgets", "foreign_nets:forgets returned None, not an nn.Module; let it return the model"),
        ("foreign_nets:number", "returned an int, not an nn.Module"),
        ("lacks:make", "importing lacks failed with ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("misnames:make", "importing misnames failed with ImportError: cannot import name 'no_such_net'"),
        ("broken:make", "importing broken failed with SyntaxError"),
        ("script:make", "importing script failed with SystemExit: 2"),
    ],
)
def test_a_factory_that_cannot_be_used_gets_a_sentence(modules, name, words):
    modules(
        foreign_nets=MODELS,
        empty="",
        lacks="import no_such_dependency",
        misnames="from foreign_nets import no_such_net",
        broken="def make(:",
        script="raise SystemExit(2)",
    )
    assert words in refusal(name)


def test_a_factory_is_told_from_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_factory("package.module:factory")
    assert is_factory("models.py:factory")  # for load_factory to explain
    for path in ("model.safetensors", "runs/model", r"C:\runs\model.pt", "C:/model", "a:b/model.pt", "module:", ""):
        assert not is_factory(path)
    (tmp_path / "net:best").touch()
    assert not is_factory("net:best")
