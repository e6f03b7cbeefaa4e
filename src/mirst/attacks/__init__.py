"""L-infinity attacks on raw [0, 1] images. `ATTACKS` names them for YAML and the command line."""

from mirst.attacks.apgd import APGD
from mirst.attacks.base import Attack, ConfigurableAttack, Minimum, MinimumNormAttack
from mirst.attacks.carlini_wagner import CarliniWagner
from mirst.attacks.cw import CW
from mirst.attacks.fab import FAB
from mirst.attacks.fgsm import FGSM
from mirst.attacks.multi_targeted import MultiTargeted
from mirst.attacks.pgd import PGD
from mirst.attacks.square import Square
from mirst.attacks.stand_in import Expectation, StandIn, StandIns
from mirst.attacks.surrogate import SurrogateBackward
from mirst.attacks.transfer import Transfer

ATTACKS: dict[str, type[ConfigurableAttack]] = {
    "fgsm": FGSM,
    "pgd": PGD,
    "cw": CW,
    "apgd": APGD,
    "fab": FAB,
    "square": Square,
}
"""Attacks by the name that a study uses."""

__all__ = [
    "APGD",
    "ATTACKS",
    "CW",
    "FAB",
    "FGSM",
    "PGD",
    "Attack",
    "CarliniWagner",
    "ConfigurableAttack",
    "Expectation",
    "Minimum",
    "MinimumNormAttack",
    "MultiTargeted",
    "Square",
    "StandIn",
    "StandIns",
    "SurrogateBackward",
    "Transfer",
]
