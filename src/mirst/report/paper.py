"""The numbers and the claims of MIRST-DM (MICCAI 2022), to be compared with a study."""

from dataclasses import dataclass
from typing import Literal

PaperMetric = Literal["f1", "sensitivity"]
Kind = Literal["higher", "not worse"]

ATTACKS = ("none", "fgsm", "pgd", "cw")
CW_REASON = (
    "the paper's CW results do not follow from its settings: with two classes, 10 CW steps of 0.001 are the first ten "
    "steps of PGD, yet Table 1 has a lower F1 under CW than under PGD with 20 steps"
)


@dataclass(frozen=True)
class Column:
    """A column of a table: a defense (its title in a study) and the printed values by metric and attack.

    >>> Column(1, "ce", (0.798, 0.014, 0.0, 0.0), (0.786, 0.017, 0.0, 0.0)).f1[ATTACKS.index("fgsm")]
    0.014
    """

    table: int
    defense: str
    f1: tuple[float, float, float, float] | None
    """No attack, FGSM, PGD, CW; `None`: training did not converge."""
    sensitivity: tuple[float, float, float, float] | None


MARGIN = 0.05
"""The largest clean F1 difference that the paper itself calls comparable: .798 against .748."""

COLUMNS = (
    Column(1, "ce", (0.798, 0.014, 0.000, 0.000), (0.786, 0.017, 0.000, 0.000)),
    Column(1, "rst", (0.757, 0.519, 0.496, 0.482), (0.711, 0.495, 0.478, 0.463)),
    Column(1, "mirst", (0.748, 0.542, 0.516, 0.498), (0.713, 0.528, 0.513, 0.492)),
    Column(2, "ce", (0.831, 0.231, 0.000, 0.000), (0.827, 0.284, 0.000, 0.000)),
    Column(2, "gr", (0.817, 0.198, 0.000, 0.000), (0.815, 0.245, 0.000, 0.000)),
    Column(2, "at", (0.489, 0.253, 0.09, 0.479), (0.344, 0.267, 0.083, 0.336)),
    Column(2, "llr", None, None),
    Column(2, "trades", (0.822, 0.576, 0.366, 0.458), (0.780, 0.522, 0.379, 0.467)),
    Column(2, "rst", (0.802, 0.620, 0.425, 0.467), (0.762, 0.604, 0.420, 0.463)),
    Column(2, "mirst", (0.830, 0.640, 0.544, 0.512), (0.805, 0.622, 0.543, 0.504)),
    Column(3, "rst", (0.802, 0.620, 0.425, 0.467), (0.762, 0.604, 0.420, 0.463)),
    Column(3, "rst+dm", (0.825, 0.641, 0.580, 0.740), (0.806, 0.628, 0.571, 0.743)),
    Column(3, "mirst", (0.830, 0.640, 0.544, 0.512), (0.805, 0.622, 0.543, 0.504)),
    Column(3, "mirst+dm", (0.823, 0.655, 0.586, 0.734), (0.799, 0.650, 0.587, 0.720)),
)


@dataclass(frozen=True)
class Claim:
    """A claim that one column is higher than another, or not worse, in some cells.

    >>> Claim("RST is more robust", better=(1, "rst"), other=(1, "ce"), attacks=("pgd",)).kind
    'higher'
    """

    text: str
    better: tuple[int, str]
    """Table and defense."""
    other: tuple[int, str]
    attacks: tuple[str, ...]
    metric: PaperMetric = "f1"
    kind: Kind = "higher"
    counter: bool = False
    """Whether the tables of the paper show it, against the conclusions in its text."""


UNDER_ATTACK = ("fgsm", "pgd", "cw")
CLAIMS = (
    Claim("RST greatly improves the baseline's robustness", (1, "rst"), (1, "ce"), UNDER_ATTACK),
    Claim("MIRST greatly improves the baseline's robustness", (1, "mirst"), (1, "ce"), UNDER_ATTACK),
    Claim("RST generalises comparably to the baseline", (1, "rst"), (1, "ce"), ("none",), kind="not worse"),
    Claim("MIRST generalises comparably to the baseline", (1, "mirst"), (1, "ce"), ("none",), kind="not worse"),
    Claim("MIRST generalises comparably to RST", (1, "mirst"), (1, "rst"), ("none",), kind="not worse"),
    Claim("MIRST is more robust than RST", (1, "mirst"), (1, "rst"), UNDER_ATTACK),
    Claim("MIRST keeps more sensitivity than RST", (1, "mirst"), (1, "rst"), UNDER_ATTACK, "sensitivity"),
    Claim("SimCLR improves the baseline on clean images", (2, "ce"), (1, "ce"), ("none",)),
    Claim("SimCLR improves RST on clean images", (2, "rst"), (1, "rst"), ("none",)),
    Claim("SimCLR improves MIRST on clean images", (2, "mirst"), (1, "mirst"), ("none",)),
    Claim("SimCLR improves MIRST's robustness", (2, "mirst"), (1, "mirst"), UNDER_ATTACK),
    Claim("GR does not help against PGD and CW", (2, "ce"), (2, "gr"), ("pgd", "cw"), kind="not worse"),
    Claim("AT costs generalisation", (2, "ce"), (2, "at"), ("none",)),
    Claim("TRADES generalises comparably to the baseline", (2, "trades"), (2, "ce"), ("none",), kind="not worse"),
    Claim("RST is more robust than TRADES", (2, "rst"), (2, "trades"), UNDER_ATTACK),
    Claim("MIRST is more robust than AT", (2, "mirst"), (2, "at"), UNDER_ATTACK),
    Claim("MIRST is more robust than TRADES", (2, "mirst"), (2, "trades"), UNDER_ATTACK),
    Claim("MIRST is more robust than RST, from SimCLR weights", (2, "mirst"), (2, "rst"), UNDER_ATTACK),
    Claim("Drop-max makes RST more robust", (3, "rst+dm"), (3, "rst"), UNDER_ATTACK),
    Claim("Drop-max improves RST on clean images", (3, "rst+dm"), (3, "rst"), ("none",)),
    Claim("Drop-max makes MIRST more robust", (3, "mirst+dm"), (3, "mirst"), UNDER_ATTACK),
    Claim("Drop-max does not change MIRST on clean images", (3, "mirst+dm"), (3, "mirst"), ("none",), kind="not worse"),
    Claim("MIRST with drop-max is the most robust", (3, "mirst+dm"), (3, "rst+dm"), UNDER_ATTACK),
    Claim("RST with drop-max beats MIRST with drop-max", (3, "rst+dm"), (3, "mirst+dm"), ("none", "cw"), counter=True),
)
