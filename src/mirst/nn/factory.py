"""Models and other objects of the user's own by name: `package.module:factory`, `package.module:Class`."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from torch import nn

from mirst.errors import MirstError, suggestion

LIBRARIES = ("monai", "timm", "torchvision")
"""Whose networks `mirst.nn.build_model` makes by name; also the names of the extras that install them."""


def is_factory(text: str) -> bool:
    """Whether `text` has the form `package.module:factory` or `LIBRARY:NETWORK`, and is not an existing path."""
    _, colon, attribute = text.rpartition(":")
    named = library_of(text) is not None or (bool(colon) and attribute.isidentifier())
    return named and not Path(text).exists()  # C:\net.pt has no such end


def library_of(name: str) -> str | None:
    """The library of `LIBRARY:NETWORK`; `None` if `name` has another form.

    >>> library_of("monai:DenseNet121"), library_of("my_package.nets:DenseNet121")
    ('monai', None)
    """
    library, _, network = name.partition(":")
    return library if library in LIBRARIES and network else None


def load_factory(name: str, **arguments: Any) -> nn.Module:
    """The model that `package.module:factory` returns. Its code is run.

    The factory is called with `arguments`; it may also be a model itself. The current working directory is added to
    `sys.path` permanently, as by `python -m`, since the model may import later.

    Raises:
        MirstError: a name of another form, a module or attribute that cannot be found or imported,
            a factory that cannot be called, raises, or returns no `nn.Module`.
    """
    if library_of(name):
        raise MirstError(
            f"{name} is a network without trained weights; train it with model.name: {name} in a study, or write a "
            "factory that loads your weights into it"
        )
    factory = import_object(name, "factory")
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise MirstError(f"{name} is {described(factory)}; give a function that returns the model, or an nn.Module")
    try:
        model = factory(**arguments)
    except (Exception, SystemExit) as error:
        raise MirstError(
            f"{name} raised {in_words(error)}; it is called {_call(arguments)} and must return the model"
        ) from error
    if not isinstance(model, nn.Module):
        raise MirstError(f"{name} returned {described(model)}, not an nn.Module; let it return the model")
    return model


def import_object(name: str, kind: Literal["factory", "Class"]) -> object:
    """What `package.module:NAME` names. The module is imported, so its code is run, as by `load_factory`.

    Args:
        kind: what the error messages call it.

    Raises:
        MirstError: a name of another form, or a module or attribute that cannot be found or imported.
    """
    module, _, attribute = name.partition(":")
    if module.endswith(".py") or not all(part.isidentifier() for part in (attribute, *module.split("."))):
        raise MirstError(f"{name} is not of the form package.module:{kind}{_meant(module, attribute)}")
    return _find(_import(module), attribute, kind)


def package_of(name: str) -> Path | None:
    """The folder or file of the top-level package or module of `package.module:factory`; `None` if it is installed or
    does not exist.
    """
    _add_working_directory()
    found = importlib.util.find_spec(name.partition(":")[0].partition(".")[0])
    if found is None or (found.origin is None and not found.submodule_search_locations):
        return None
    place = Path(next(iter(found.submodule_search_locations or [str(found.origin)])))
    return None if "site-packages" in place.parts else place


def _meant(module: str, attribute: str) -> str:
    stem = module.removesuffix(".py").strip("./").replace("/", ".")
    return f"; did you mean {stem}:{attribute}?" if module.endswith(".py") and attribute else ""


def _add_working_directory() -> str:
    """Add the current working directory to `sys.path`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # the file may be newer than the last listing of its folder
    return here


def _import(name: str) -> ModuleType:
    here = _add_working_directory()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise MirstError(
                f"there is no module {missing}; install it, set PYTHONPATH, or run mirst from the folder that contains "
                f"it (this is {here})"
            ) from error
        raise MirstError(
            f"importing {name} failed with {in_words(error)}; fix the module or install what it "
            f"needs, and check with python -c 'import {name}'"
        ) from error


def _find(module: ModuleType, attribute: str, kind: Literal["factory", "Class"]) -> object:
    if hasattr(module, attribute):
        return getattr(module, attribute)
    package = module.__name__.partition(".")[0]
    known = [
        key
        for key, value in vars(module).items()
        if (kind == "factory" and isinstance(value, nn.Module))
        or (
            (callable(value) if kind == "factory" else isinstance(value, type))
            and str(getattr(value, "__module__", "")).partition(".")[0] == package
        )
    ]
    hint = suggestion(attribute, known) if known else f"; it defines no {'function' if kind == 'factory' else 'class'}"
    raise MirstError(f"{module.__name__} has no {attribute}{hint}")


def _call(arguments: dict[str, Any]) -> str:
    given = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"with {given}" if given else "without arguments"


def described(value: object) -> str:
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
