"""Witnesses: perturbations in few bits that make a model misclassify an image, for readers who attack nothing."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirst.evaluation.judge import in_batches, share_of_rounding, shifted

LEVELS = (1, 3, 15, 127)
"""Steps between 0 and eps. The fewest that still misclassify are kept: their files are the smallest."""
SAFETY = 2
"""How many times its `rounding` a wrong class must lead, so that it leads on every machine."""


@dataclass(frozen=True)
class Witnesses:
    """What is left of attacked images after rounding; `found` says where a witness is.

    >>> Witnesses(torch.zeros(1, 1, 2, 2, dtype=torch.int8), np.ones(1), np.ones(1), np.array([True])).found.all()
    np.True_
    """

    steps: Tensor
    """`(N, C, H, W)`, int8."""
    unit: NDArray[np.float64]
    """`(N,)`: the length of a step, in units of the [0, 1] pixel range."""
    lead: NDArray[np.float64]
    """`(N,)`: as `leads` of the wrong class."""
    found: NDArray[np.bool_]


def witness_images(x: Tensor, steps: Tensor, unit: NDArray[np.float64]) -> Tensor:
    """`(N, C, H, W)` images `x` moved by `steps * unit` and clipped to [0, 1]: the same bits on every machine.

    >>> witness_images(torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[1, -3]]]], dtype=torch.int8), np.array([0.25]))
    tensor([[[[0.7500, 0.0000]]]])
    """
    moved = x.double() + steps.double() * torch.as_tensor(unit, dtype=torch.float64)[:, None, None, None]
    return moved.clamp(0, 1).to(x.dtype)


def leads(logits: Tensor, prediction: Tensor, positive: int, threshold: float) -> Tensor:
    """`(N,)` in float64: by how much the logit of `prediction` exceeds the largest other one at the operating point.

    >>> leads(torch.tensor([[0.0, 1.0]]), torch.tensor([0]), positive=1, threshold=3.0)
    tensor([2.], dtype=torch.float64)
    """
    values = shifted(logits, positive, threshold).double()
    own = values.gather(1, prediction[:, None])
    return (own - values.scatter(1, prediction[:, None], -torch.inf).amax(1, keepdim=True))[:, 0]


def rounding(model: nn.Module, logits: Tensor) -> Tensor:
    """`(N,)` in float64: by how much the logits of each image may differ between machines.

    >>> rounding(nn.Identity(), torch.tensor([[-0.5, 0.5], [-20.0, 10.0]]))
    tensor([0.0001, 0.0020], dtype=torch.float64)
    """
    largest = logits.double().abs().nan_to_num(0, 0).amax(1).clamp(min=1)
    return largest * share_of_rounding(model)


def find_witnesses(
    model: nn.Module,
    x: Tensor,
    attacked: Tensor,
    prediction: Tensor,
    eps: NDArray[np.float64],
    *,
    positive: int = 1,
    threshold: float = 0.0,
) -> Witnesses:
    """Round the perturbations of attacked images, as coarsely as the model still predicts `prediction`.

    It must do so by more than the logits may differ between machines.

    Args:
        model, positive, threshold: as in `evaluate`.
        x, attacked: `(N, C, H, W)` on the device of the model.
        prediction: `(N,)` class indices, other than the labels.
        eps: `(N,)`, above 0.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).requires_grad_(False)
    >>> model[1].weight[:], model[1].bias[:] = torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.0])
    >>> x, wrong = torch.full((1, 1, 1, 1), 0.6), torch.tensor([0])
    >>> kept = find_witnesses(model, x, x - 0.19, wrong, np.array([0.2]))
    >>> kept.steps.item(), kept.unit.item(), kept.found.item()
    (-1, 0.2, True)
    """
    steps, unit = torch.zeros(x.shape, dtype=torch.int8), eps / LEVELS[0]
    lead, found = np.full(len(x), -np.inf), np.zeros(len(x), dtype=bool)
    delta = (attacked - x).double().cpu()
    for levels in LEVELS:
        left = np.flatnonzero(~found)
        if not len(left):
            break
        own = eps[left] / levels
        each = torch.as_tensor(own)[:, None, None, None]
        rounded = (delta[left] / each).round().clamp(-levels, levels).to(torch.int8)
        images = witness_images(x[left].cpu(), rounded, own).to(x.device)
        logits = in_batches(model, images)
        ahead = leads(logits, prediction[left], positive, threshold).cpu().numpy()
        good = (ahead > SAFETY * rounding(model, logits).cpu().numpy()) & logits.isfinite().all(1).cpu().numpy()
        kept = left[good]
        steps[kept], unit[kept], lead[kept], found[kept] = rounded[good], own[good], ahead[good], True
    return Witnesses(steps, unit, lead, found)
