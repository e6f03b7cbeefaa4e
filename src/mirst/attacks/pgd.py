"""Projected gradient descent."""

from dataclasses import dataclass

from mirst.attacks.descent import SignDescent


@dataclass(frozen=True, kw_only=True)
class PGD(SignDescent):
    """Signed gradient steps on the cross-entropy (Madry et al. 2018; MIRST-DM, Eq. 3).

    The defaults are MIRST-DM's evaluation setting: 20 steps of 0.001 end barely beyond the edge
    of a ball of 5/255 = 0.0196.
    """
