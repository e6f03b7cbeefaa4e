"""CW-Linf as MIRST-DM and RST mean it: PGD on the margin loss."""

from dataclasses import dataclass

from torch import Tensor

from mirst.attacks.descent import SignDescent
from mirst.attacks.losses import margin


@dataclass(frozen=True, kw_only=True)
class CW(SignDescent):
    """Signed gradient steps on the margin `max_{i != y} Z_i - Z_y`.

    This is PGD with the loss of Carlini and Wagner 2017, which papers on adversarial training call
    CW-Linf; it is not their minimum-norm attack. The defaults are MIRST-DM's evaluation setting.
    They are weak: 10 steps of 0.001 reach 0.01, half-way to the edge of a ball of 5/255 = 0.0196,
    and with two classes the steps are PGD's first ten until float32 saturates.
    """

    steps: int = 10

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y)
