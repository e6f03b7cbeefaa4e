"""Which pairs are copies, which only look alike, and which of them an audit joins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import ConfigDict

from mirst.data.similarity import Pair
from mirst.errors import MirstError

Join = Literal["copies", "look_alikes", "named", "none"]
FINE, LOOK_ALIKE, COARSE = 0.40, 0.20, 0.60
"""Least thresholds: of the fine score for copies, of the fine and of the coarse score for look-alikes."""
CERTAIN = 0.95
"""A threshold above this is out of the reach of copies: the detail that all images share outweighs their own."""
SPREADS_OF_RANDOM, SPREADS_OF_NEAREST, SPREADS_OF_LOOK_ALIKES = 6.0, 6.5, 3.0
"""How many standard deviations thresholds lie above the median of pairs that are no copies."""
HIGHEST_OF_NEAREST = 0.75
"""Nearest neighbours raise the threshold no higher than this: in a set full of copies they are copies themselves."""


@dataclass(frozen=True)
class AuditRule:
    """Which images an audit joins to one group.

    >>> AuditRule(join="named").fine is None
    True
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    join: Join = "copies"
    """Named groups with copies; also look-alikes; named groups alone; or none, so every image is a group."""
    coarse: float | None = None
    """Coarse score from which two images look alike; by default estimated from the pairs of the data set."""
    fine: float | None = None
    """Fine score from which two images are copies; by default estimated from the pairs of the data set."""

    def __post_init__(self) -> None:
        for name in ("coarse", "fine"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise MirstError(f"{name} is {value}; it must lie above 0 and not above 1")


@dataclass(frozen=True)
class Thresholds:
    """Of the scores of pairs.

    >>> Thresholds(fine=0.5, look_alike=0.3, coarse=0.8).level(Pair(0, 1, coarse=0.9, fine=0.1))
    'look-alikes'
    """

    fine: float
    look_alike: float
    coarse: float

    def level(self, pair: Pair) -> Literal["copies", "look-alikes"] | None:
        """What the pair is; `None` if nothing of the kind."""
        if pair.fine >= self.fine:
            return "copies"
        return "look-alikes" if pair.fine >= self.look_alike or pair.coarse >= self.coarse else None


def estimate_thresholds(pairs: Sequence[Pair], random: Sequence[float], rule: AuditRule | None = None) -> Thresholds:
    """Thresholds from pairs of the data set that are no copies, unless the rule gives them.

    The fine score of such pairs is near 0 if their detail is noise, and larger if all images share a pose, a border
    or an overlay. Medians and quantiles are used, so some copies among the pairs do not matter.

    Args:
        pairs: nearest neighbours, without those of one named group.
        random: fine scores of random pairs.
    """
    rule = rule or AuditRule()
    nearest = _above([pair.fine for pair in pairs], SPREADS_OF_NEAREST)
    fine = rule.fine or max(FINE, _above(random, SPREADS_OF_RANDOM), min(nearest, HIGHEST_OF_NEAREST))
    look_alike = max(LOOK_ALIKE, _above(random, SPREADS_OF_LOOK_ALIKES))
    coarse = max(COARSE, min(0.97, _above([pair.coarse for pair in pairs], SPREADS_OF_LOOK_ALIKES)))
    return Thresholds(fine=fine, look_alike=min(look_alike, fine), coarse=rule.coarse or coarse)


def _above(scores: Sequence[float], spreads: float) -> float:
    """The median plus so many standard deviations, as the third quarter of the scores gives them; 0 for few scores."""
    if len(scores) < 20:
        return 0.0
    median, upper = np.quantile(scores, [0.5, 0.75])
    return float(median + spreads * (upper - median) / 0.6745)
