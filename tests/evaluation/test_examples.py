"""The examples in the docstrings of metrics, evaluation, report and display run, and every public class has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

PACKAGES = ("mirst.evaluation", "mirst.report", "mirst.display")
MODULES = ["mirst.metrics"] + [
    module.name
    for package in map(importlib.import_module, PACKAGES)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_class_has_an_example():
    classes = {
        item
        for module in map(importlib.import_module, MODULES)
        for name, item in inspect.getmembers(module, inspect.isclass)
        if item.__module__ == module.__name__ and not name.startswith("_")
    }
    assert len(classes) > 30
    assert [item.__qualname__ for item in classes if ">>>" not in (item.__doc__ or "")] == []
