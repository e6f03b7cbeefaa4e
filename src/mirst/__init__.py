"""Robust classifiers for small medical image sets.

What a notebook needs is here, imported on first use:

>>> import mirst
>>> mirst.PGD(eps=8 / 255).steps
20
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirst.attacks import APGD as APGD
    from mirst.attacks import CW as CW
    from mirst.attacks import FAB as FAB
    from mirst.attacks import FGSM as FGSM
    from mirst.attacks import PGD as PGD
    from mirst.attacks import CarliniWagner as CarliniWagner
    from mirst.attacks import Expectation as Expectation
    from mirst.attacks import MultiTargeted as MultiTargeted
    from mirst.attacks import Square as Square
    from mirst.attacks import StandIn as StandIn
    from mirst.attacks import SurrogateBackward as SurrogateBackward
    from mirst.attacks import Transfer as Transfer
    from mirst.data import read_dataset as read_dataset
    from mirst.defenses import AT as AT
    from mirst.defenses import CE as CE
    from mirst.defenses import CROWNIBP as CROWNIBP
    from mirst.defenses import GR as GR
    from mirst.defenses import IBP as IBP
    from mirst.defenses import LLR as LLR
    from mirst.defenses import MIRST as MIRST
    from mirst.defenses import MTLIBP as MTLIBP
    from mirst.defenses import RST as RST
    from mirst.defenses import SABR as SABR
    from mirst.defenses import TRADES as TRADES
    from mirst.evaluation import evaluate as evaluate
    from mirst.evaluation import robustness as robustness
    from mirst.nn import build_model as build_model
    from mirst.nn import load_model as load_model
    from mirst.training import Training as Training
    from mirst.training import fit as fit

    __version__: str

_NAMES = {
    "mirst.attacks": (
        *("APGD", "CW", "FAB", "FGSM", "PGD", "CarliniWagner", "Expectation", "MultiTargeted", "Square", "StandIn"),
        *("SurrogateBackward", "Transfer"),
    ),
    "mirst.data": ("read_dataset",),
    "mirst.defenses": ("AT", "CE", "CROWNIBP", "GR", "IBP", "LLR", "MIRST", "MTLIBP", "RST", "SABR", "TRADES"),
    "mirst.evaluation": ("evaluate", "robustness"),
    "mirst.nn": ("build_model", "load_model"),
    "mirst.training": ("Training", "fit"),
}
_HOMES = {name: package for package, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_HOMES]


if not TYPE_CHECKING:  # or mypy would take every name for an attribute

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version  # slow to import

            return version("mirst")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
