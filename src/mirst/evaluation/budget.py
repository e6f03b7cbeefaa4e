"""Whether the steps of an attack can reach the edge of its ball."""

import math
from collections.abc import Iterator

from mirst.attacks import Attack


def reach(attack: Attack) -> float | None:
    """The share of its eps that an attack of fixed step length can cover: `steps * step_size / eps`.

    `None` for an attack that chooses its own steps, or whose eps is 0. 1 if the steps miss eps by rounding alone:
    `n` steps of `eps / n` reach the edge.

    >>> from mirst.attacks import APGD, PGD
    >>> reach(PGD(eps=3 / 255, steps=19, step_size=3 / 19 / 255)), reach(APGD())
    (1.0, None)
    """
    steps, step_size = getattr(attack, "steps", None), getattr(attack, "step_size", None)
    if steps is None or step_size is None or attack.eps <= 0:
        return None
    share = float(steps * step_size / attack.eps)
    return 1.0 if math.isclose(share, 1.0) else share


def weak_budget(name: str, attack: Attack) -> str | None:
    """A sentence if the steps of the attack cannot reach the edge of its ball; `None` if they can.

    >>> from mirst.attacks import CW
    >>> weak_budget("cw", CW(eps=5 / 255, steps=10, step_size=0.001))
    'cw has weak settings: 10 steps of 0.001 change a pixel by at most 0.01, less than its eps of 0.01961.'
    """
    share = reach(attack)
    if share is None or share >= 1:
        return None
    steps, step_size = attack.steps, attack.step_size  # type: ignore[attr-defined]
    return (
        f"{name} has weak settings: {steps} steps of {step_size:g} change a pixel by at most "
        f"{steps * step_size:.4g}, less than its eps of {attack.eps:.4g}."
    )


def unwrapped(attack: Attack) -> Iterator[Attack]:
    """The attack, the one inside it, and so on."""
    inner: Attack | None = attack
    while inner is not None:
        yield inner
        inner = getattr(inner, "attack", None)
