"""L-infinity attacks on raw [0, 1] images. `ATTACKS` names them for YAML and the command line."""

from mirst.attacks.base import Attack
from mirst.attacks.cw import CW
from mirst.attacks.fgsm import FGSM
from mirst.attacks.pgd import PGD

ATTACKS: dict[str, type[Attack]] = {"fgsm": FGSM, "pgd": PGD, "cw": CW}

__all__ = ["ATTACKS", "CW", "FGSM", "PGD", "Attack"]
