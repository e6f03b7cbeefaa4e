"""Multi-instance robust self-training."""

from dataclasses import dataclass

from mirst.defenses.instances import InstanceTraining
from mirst.errors import MirstError


@dataclass(frozen=True, kw_only=True)
class MIRST(InstanceTraining):
    """`CE(f(x), y) + alpha * sum_j weights_j * CE(f(x_j), y)` over several iterates (MIRST-DM, Eq. 2).

    The paper does not say which iterates it takes, nor the order of its weights. The default is the last four, the
    most aggressive first.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> defense = MIRST(steps=10, instances=(10, 5), weights=(0.7, 0.3))
    >>> total, terms = defense(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['adversarial', 'clean']
    """

    instances: tuple[int, ...] = (10, 9, 8, 7)
    """Numbers of the iterates to train on, from 1 to `steps`."""
    weights: tuple[float, ...] = (0.34, 0.28, 0.22, 0.16)
    """Weight of each instance, beta in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.instances) != len(self.weights) or not self.instances:
            raise MirstError(
                f"instances has {len(self.instances)} entries and weights {len(self.weights)}; "
                "each instance needs one weight"
            )
        if not all(1 <= number <= self.steps for number in self.instances):
            raise MirstError(f"instances is {self.instances}; iterates are numbered from 1 to steps = {self.steps}")
        if len(set(self.instances)) != len(self.instances):
            raise MirstError(f"instances is {self.instances}; give each iterate once")
        if not all(weight >= 0 for weight in self.weights):
            raise MirstError(f"weights is {self.weights}; none may be negative")

    def _instances(self) -> dict[int, float]:
        return dict(zip(self.instances, self.weights, strict=True))
