"""Training objectives. `DEFENSES` names them for YAML and the command line."""

from mirst.defenses.at import AT
from mirst.defenses.base import Defense, LossTerms
from mirst.defenses.base_classes import BaseDefense, DefenseWrapper
from mirst.defenses.ce import CE
from mirst.defenses.crown_ibp import CROWNIBP
from mirst.defenses.gr import GR
from mirst.defenses.ibp import IBP
from mirst.defenses.llr import LLR, llr_penalty
from mirst.defenses.mirst import MIRST
from mirst.defenses.mtl_ibp import MTLIBP
from mirst.defenses.rst import RST
from mirst.defenses.sabr import SABR
from mirst.defenses.trades import TRADES

DEFENSES: dict[str, type[Defense]] = {
    "ce": CE,
    "gr": GR,
    "at": AT,
    "llr": LLR,
    "trades": TRADES,
    "rst": RST,
    "mirst": MIRST,
    "ibp": IBP,
    "crownibp": CROWNIBP,
    "sabr": SABR,
    "mtlibp": MTLIBP,
}
"""Training objectives by the name that a study uses."""

__all__ = [
    "AT",
    "CE",
    "CROWNIBP",
    "DEFENSES",
    "GR",
    "IBP",
    "LLR",
    "MIRST",
    "MTLIBP",
    "RST",
    "SABR",
    "TRADES",
    "BaseDefense",
    "Defense",
    "DefenseWrapper",
    "LossTerms",
    "llr_penalty",
]
