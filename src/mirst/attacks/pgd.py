"""Projected gradient descent."""

from dataclasses import dataclass

from mirst.attacks.descent import SignDescent


@dataclass(frozen=True, kw_only=True)
class PGD(SignDescent):
    """Signed gradient steps on the cross-entropy (Madry et al. 2018; MIRST-DM, Eq. 3).

    The defaults are MIRST-DM's evaluation setting: 20 steps of 0.001 reach just beyond the edge of a ball of
    5/255 = 0.0196.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
    >>> attack = PGD(eps=8 / 255, steps=10, step_size=2 / 255, random_start=True, restarts=2)
    >>> attacked = attack(model, x, y, generator=torch.Generator().manual_seed(0))
    >>> round(255 * float((attacked - x).abs().max()))
    8
    """
