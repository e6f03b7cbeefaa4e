"""The modules and public names of mirst, for tests that hold for all of them."""

import importlib
import pkgutil
from types import ModuleType

import mirst

OPTIONAL = {
    "mirst.app.page": "gradio",
    "mirst.nn.accelerate.drop_max_triton": "triton",
    "mirst.study.engines.ray_worker": "ray",
}
"""Modules that cannot be imported without an optional package."""
PACKAGES = (
    *("attacks", "bounds", "data", "defenses", "dossier", "evaluation", "export", "nn", "report", "study"),
    "training",
)
"""Packages with public names in `__all__`."""


def module_names() -> list[str]:
    """All modules but `__main__`, which runs the command line, and the files that an exported bundle takes along."""
    found = (module.name for module in pkgutil.walk_packages(mirst.__path__, "mirst."))
    return ["mirst", *(name for name in found if "skeleton" not in name and not name.endswith("__main__"))]


def imported(name: str) -> ModuleType | None:
    """The module; `None` if the optional package that it needs is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if name not in OPTIONAL:
            raise
        return None


def public_classes() -> dict[str, type]:
    """Classes in the `__all__` of public packages, by `package.name`."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(f"mirst.{package}")
        for name in module.__all__:
            if isinstance(getattr(module, name), type):
                found[f"{package}.{name}"] = getattr(module, name)
    return found
