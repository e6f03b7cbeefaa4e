"""A pixel network and the box of the lesion, fused to one differentiable model of two classes."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mirst.box_code import box_code, box_features, is_known, quantised
from mirst.errors import MirstError

if TYPE_CHECKING:
    from mirst.nn.ensemble import Ensemble

__all__ = ["BOUND", "BoxFusion", "BoxInput", "BoxRegression", "box_code", "box_features", "pixel_part", "split_box"]

BOUND = 1.5
"""Log-odds by which the pixels can move the box at most."""
MOMENTUM, SMALLEST = 0.1, 1e-5
"""Share of a batch in the running statistics, and the variance added to theirs: those of batch norm."""


class BoxRegression(NamedTuple):
    """Logistic regression of the positive class on the standardised features of a box."""

    mean: tuple[float, float]
    std: tuple[float, float]
    """Of the log aspect and the log area over the training images."""
    weight: tuple[float, float]
    bias: float


class BoxFusion(nn.Module):
    """Logits whose difference, positive minus other, is `box logit + bound * tanh(z / sd)`.

    `z` is the difference of the two logits of `pixels`. `sd` is a running standard deviation of `z`: in train mode each
    pass uses the value from before and then updates it, like the statistics of a batch norm; in eval mode it is fixed.
    The box logit is that of `set_box`, 0 before; where no box is known it is the bias of the regression, its value for
    the average box of the training images.

    Args:
        pixels: from `(N, C, H, W)` images to `(N, 2)` logits.
        positive: index of the positive class.
        bound: how far the pixels move the log-odds at most, above 0.

    Raises:
        MirstError: a positive class other than 0 or 1, or a bound that is not a finite number above 0.

    Called on `(N, C + 1, H, W)`: the images in [0, 1] and, in the last channel, their `box_code`.

    >>> model = BoxFusion(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), positive=1).eval()
    >>> x = torch.cat([torch.rand(3, 1, 8, 8), box_code(torch.zeros(3, 2), 8)], 1)
    >>> logits = model(x)
    >>> logits.shape, bool((logits.diff(dim=1).abs() <= 1.5).all())
    (torch.Size([3, 2]), True)
    """

    box_mean: Tensor
    box_std: Tensor
    box_weight: Tensor
    box_bias: Tensor
    pixel_mean: Tensor
    pixel_var: Tensor

    def __init__(self, pixels: nn.Module, positive: int, bound: float = BOUND) -> None:
        super().__init__()
        if positive not in (0, 1):
            raise MirstError(f"positive is {positive}; a model that takes a box has two classes, 0 and 1")
        if not 0 < bound < float("inf"):
            raise MirstError(f"bound is {bound}; it must be a finite number above 0")
        self.pixels = pixels
        self.positive = positive
        self.bound = bound
        for name, value in (
            ("box_mean", torch.zeros(2)),
            ("box_std", torch.ones(2)),
            ("box_weight", torch.zeros(2)),
            ("box_bias", torch.zeros(())),
            ("pixel_mean", torch.zeros(())),
            ("pixel_var", torch.ones(())),
        ):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 2)` logits of `(N, C + 1, H, W)`."""
        return self.fuse(x[:, :-1], *box_features(x[:, -1:]))

    def fuse(self, images: Tensor, features: Tensor, known: Tensor) -> Tensor:
        """`(N, 2)` logits.

        Args:
            images: `(N, C, H, W)` in [0, 1].
            features: `(N, 2)`, log aspect and log area.
            known: `(N,)`, whether there is a box.
        """
        pixel_logits = self.pixels(images)
        z = pixel_logits[:, self.positive] - pixel_logits[:, 1 - self.positive]
        half = (self.box_logit(features, known) + self.bound * _tanh(z / self.deviation())) / 2
        if self.training:
            self.follow(z.detach())
        return torch.stack((half, -half) if self.positive == 0 else (-half, half), 1)

    def box_logit(self, features: Tensor, known: Tensor) -> Tensor:
        """Log-odds of the positive class by the box alone, `(N,)`."""
        standard = (features.to(self.box_mean.dtype) - self.box_mean) / self.box_std
        return torch.where(known, (standard * self.box_weight).sum(1), 0.0) + self.box_bias

    @torch.no_grad()
    def set_box(self, regression: BoxRegression) -> None:
        """Set the logistic regression on the box."""
        for buffer, value in zip(
            (self.box_mean, self.box_std, self.box_weight, self.box_bias), regression, strict=True
        ):
            buffer.copy_(torch.as_tensor(value, dtype=buffer.dtype))

    def deviation(self) -> Tensor:
        """`sd`, a scalar."""
        return (self.pixel_var + SMALLEST).sqrt()

    @torch.no_grad()
    def follow(self, z: Tensor) -> None:
        """Mix mean and variance of a batch into the running ones; also right for a batch of one image."""
        z = z.to(self.pixel_mean.dtype)
        shift = z.mean() - self.pixel_mean
        spread = z.var(correction=0) + (1 - MOMENTUM) * shift.square()
        self.pixel_var.mul_(1 - MOMENTUM).add_(MOMENTUM * spread)
        self.pixel_mean.add_(MOMENTUM * shift)


class BoxInput(nn.Module):
    """A `BoxFusion`, or an ensemble of them, with two inputs in place of the box code, for other programs.

    >>> model = BoxFusion(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), positive=1).eval()
    >>> images, box = torch.rand(2, 1, 8, 8), torch.tensor([[0.5, -3.0], [torch.nan, torch.nan]])
    >>> torch.equal(BoxInput(model)(images, box), model(torch.cat([images, box_code(box, 8)], 1)))
    True
    """

    def __init__(self, fusion: "BoxFusion | Ensemble") -> None:
        super().__init__()
        self.fusion = fusion
        self.training = fusion.training

    def forward(self, image: Tensor, box: Tensor) -> Tensor:
        """`(N, 2)` logits of `(N, C, H, W)` images and `(N, 2)` box features, NaN where no box is known."""
        return self.fusion.fuse(image, quantised(box), is_known(box))


def fusions(model: nn.Module) -> list[BoxFusion]:
    """The fusions in `model`: itself, the one that a wrapper holds, or those of the members of an ensemble."""
    return [layer for layer in model.modules() if isinstance(layer, BoxFusion)]


def split_box(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Images `(N, C, H, W)` and box codes `(N, 1, H, W)`; `(N, 0, H, W)` for a model that takes no box."""
    count = x.shape[1] - bool(fusions(model))
    return x[:, :count], x[:, count:]


def pixel_part(model: nn.Module) -> nn.Module | None:
    """What a model that takes a box computes from the images alone: `(N, 2)` logits; `None` for other models.

    Of an ensemble these are the mean logits of its members.
    """
    parts = [fusion.pixels for fusion in fusions(model)]
    return None if not parts else parts[0] if len(parts) == 1 else _Mean(parts)


class _Mean(nn.Module):
    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def _tanh(u: Tensor) -> Tensor:
    """`tanh(u)`, with a gradient that float32 does not round to 0 before |u| = 40; that of `torch.tanh` is 0 from 9 on.

    An attack that starts in the flat part still knows its direction.
    """
    return torch.where(u >= 0, 1 - 2 * torch.sigmoid(-2 * u), 2 * torch.sigmoid(2 * u) - 1)
