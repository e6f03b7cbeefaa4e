"""CW-Linf in the sense of MIRST-DM and RST: PGD on the margin loss."""

from dataclasses import dataclass

from torch import Tensor

from mirst.attacks.descent import SignDescent
from mirst.attacks.losses import margin


@dataclass(frozen=True, kw_only=True)
class CW(SignDescent):
    """Signed gradient steps on the margin `max_{i != y} Z_i - Z_y`.

    This is PGD with the loss of Carlini and Wagner 2017. Papers on adversarial training call it CW-Linf. Their
    minimum-norm attack is `CarliniWagner`. The defaults are MIRST-DM's evaluation setting. They are weak: 10 steps of
    0.001 reach 0.01, half-way to the edge of a ball of 5/255 = 0.0196. With two classes the steps equal the first
    ten of PGD, unless float32 saturates.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
    >>> round(float((CW()(model, x, y) - x).abs().max()), 3)
    0.01
    """

    steps: int = 10

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y)
