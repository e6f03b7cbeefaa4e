"""Training objectives. `DEFENSES` names them for YAML and the command line."""

from mirst.defenses.base import Defense, LossTerms
from mirst.defenses.ce import CE
from mirst.defenses.mirst import MIRST
from mirst.defenses.rst import RST

DEFENSES: dict[str, type[Defense]] = {"ce": CE, "rst": RST, "mirst": MIRST}

__all__ = ["CE", "DEFENSES", "MIRST", "RST", "Defense", "LossTerms"]
