"""Robust self-training, supervised."""

from dataclasses import dataclass

from mirst.defenses.instances import InstanceTraining


@dataclass(frozen=True, kw_only=True)
class RST(InstanceTraining):
    """`CE(f(x), y) + alpha * CE(f(x_T), y)` with `x_T` the last PGD iterate (MIRST-DM, Eq. 1).

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = RST(alpha=2.0)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['adversarial', 'clean']
    """

    def _instances(self) -> dict[int, float]:
        return {self.steps: 1.0}
