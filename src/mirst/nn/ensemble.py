"""Several models of one architecture as one differentiable model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mirst.errors import MirstError

MAX_MEMBERS = 32
"""Upper bound for ensembles, and for cards of unknown origin."""


class Ensemble(nn.Module):
    """The mean of the logits of its members, each shifted by its own operating point.

    For two classes, with `t_m` the threshold of member m on its log-odds `d_m(x)` (logit of the positive class minus
    that of the other), t_m / 2 is subtracted from the logit of the positive class and added to the other. The log-odds
    of the ensemble are then `mean_m(d_m(x) - t_m)`, so its operating point is 0. For more classes the logits are
    averaged without a shift. The mean of the log-softmax differs from this by one number per image, the same for every
    class, so it gives the same predictions, probabilities, losses and gradients of the losses.

    Args:
        models: two to `MAX_MEMBERS`, from `(N, C, H, W)` images to `(N, K)` logits, with parameters and buffers of the
            same names and shapes. The objects themselves become the members.
        thresholds: one for each model, for two classes.
        positive: index of the positive class.

    Raises:
        MirstError: fewer than two models or too many, models of different architectures, the same object twice, or
            another number of thresholds.

    >>> members = [nn.Sequential(nn.Flatten(), nn.Linear(64, 2)) for _ in range(3)]
    >>> model = Ensemble(members, thresholds=(0.5, 0.0, -0.2), positive=1)
    >>> model(torch.rand(4, 1, 8, 8)).shape
    torch.Size([4, 2])
    """

    shift: Tensor

    def __init__(
        self, models: Sequence[nn.Module], thresholds: Sequence[float] | None = None, positive: int = 1
    ) -> None:
        super().__init__()
        _require_members(models)
        if thresholds is not None and len(thresholds) != len(models):
            raise MirstError(f"there are {len(thresholds)} thresholds for {len(models)} models; give one for each")
        if thresholds is not None and positive not in (0, 1):
            raise MirstError(f"positive is {positive}; thresholds are for two classes, 0 and 1")
        self.members = nn.ModuleList(models)
        self.register_buffer("shift", _shift(len(models), thresholds, positive))
        self.training = models[0].training

    def forward(self, x: Tensor) -> Tensor:
        """`(N, K)` logits of `(N, C, H, W)`."""
        return self._mean([member(x) for member in self.members])

    def fuse(self, images: Tensor, features: Tensor, known: Tensor) -> Tensor:
        """`(N, 2)` logits of members that take a box, as from `BoxFusion.fuse`."""
        return self._mean([member.fuse(images, features, known) for member in self.members])  # type: ignore[operator]

    def _mean(self, logits: list[Tensor]) -> Tensor:
        return (torch.stack(logits) - self.shift.unsqueeze(1)).mean(0)


def _shift(count: int, thresholds: Sequence[float] | None, positive: int) -> Tensor:
    """What is subtracted from the logits of each member: `(M, 2)`, or `(M, 1)` zeros without thresholds."""
    if thresholds is None:
        return torch.zeros(count, 1)
    half = torch.tensor(thresholds) / 2
    return torch.stack((half, -half) if positive == 0 else (-half, half), 1)


def _require_members(models: Sequence[nn.Module]) -> None:
    if not 2 <= len(models) <= MAX_MEMBERS:
        raise MirstError(f"there are {len(models)} models; an ensemble has 2 to {MAX_MEMBERS}")
    if len(set(map(id, models))) < len(models):
        raise MirstError("the same model object is given twice; give a copy of it for each member")
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in models]
    if any(own != shapes[0] for own in shapes):
        raise MirstError("the models have parameters of different names or shapes; give models of one architecture")
