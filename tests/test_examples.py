"""Every example in a docstring runs, and every public class has one."""

import doctest

import pytest

from tests.packages import OPTIONAL, imported, module_names, public_classes

CLASSES = public_classes()


def examples_of(module):
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("name", module_names())
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    module = imported(name)
    if module is None:
        pytest.skip(f"{OPTIONAL[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "cache"))
    for test in examples_of(module):
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        shown = []
        runner.run(test, out=shown.append)
        assert runner.failures == 0, "".join(shown)


def test_examples_are_found():
    """At least one for each public class, or the test above would pass on nothing."""
    modules = [module for module in map(imported, module_names()) if module is not None]
    found = {test.name for module in modules for test in examples_of(module)}
    assert len(CLASSES) > 50
    assert len(found) > len(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_has_an_example(name):
    assert ">>> " in (CLASSES[name].__doc__ or "")
