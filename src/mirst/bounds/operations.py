"""The operations that a traced network consists of, each with what bounds need to know about it.

There are four kinds. `Affine` operations map a box to a box through their absolute linear part. `Monotone` operations
map the ends of an interval to the ends of an interval. A `Measured` operation becomes one of the others when its
statistics are known. `BoxLogit` reads the box code, which no perturbation of the pixels changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mirst.bounds.affine import (
    AFFINE,
    Affine,
    Average,
    Convolution,
    Dense,
    Map,
    Number,
    Operation,
    Rearrangement,
    Scale,
    Sum,
    constant,
)
from mirst.errors import MirstError
from mirst.nn.box_fusion import BoxFusion, box_features

__all__ = [
    "AFFINE",
    "MEASURED",
    "MONOTONE",
    "Affine",
    "Average",
    "BoxLogit",
    "Convolution",
    "Dense",
    "Deviation",
    "Dropped",
    "Elementwise",
    "Input",
    "Measured",
    "Norm",
    "Number",
    "Operation",
    "OrderStatistic",
    "Rearrangement",
    "Scale",
    "Sum",
    "constant",
]


@dataclass(frozen=True)
class Elementwise:
    """An increasing function of each value whose derivative rises and then falls, or does one of the two.

    `convex` says that it only rises. The function is computed with an error of at most `ulps` units in the last place
    of 1 + its absolute value.
    """

    name: str
    function: Map
    convex: bool = False
    ulps: int = 0

    def at(self, *x: Tensor) -> Tensor:
        return self.function(*x)


@dataclass(frozen=True)
class OrderStatistic:
    """The largest (`rank` 1) or second largest (`rank` 2) value of each window.

    `windows` are the flat pixels of each window, `(windows, pixels)`, with `H * W` for padding, from `(H, W)`.
    """

    name: str
    function: Map
    rank: int
    windows: Callable[[int, int], Tensor]

    def at(self, *x: Tensor) -> Tensor:
        return self.function(*x)


MONOTONE = (Elementwise, OrderStatistic)


class Measured(Operation, Protocol):
    """An operation whose coefficients depend on the mode and, in train mode, on the clean images."""

    def fixed(self, clean: Tensor | None, like: Tensor) -> Affine:
        """The operation for this pass. In train mode `clean` are its clean inputs; running statistics are updated."""


@dataclass(frozen=True)
class Norm:
    """Batch norm: the running statistics in eval mode, those of the clean images in train mode."""

    name: str
    layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

    def at(self, *x: Tensor) -> Tensor:
        return self.fixed(None, x[0]).at(*x)

    def fixed(self, clean: Tensor | None, like: Tensor) -> Scale:
        layer = self.layer
        if clean is not None and layer.training:
            variance, mean = torch.var_mean(clean, [0, *range(2, clean.ndim)], correction=0)
            self._follow(mean.detach(), variance.detach(), clean[:, 0].numel())
        elif layer.running_mean is None or layer.running_var is None:
            raise MirstError(
                f"{self.name} (BatchNorm) has no running statistics, so the logits of an image depend on its batch; "
                "use track_running_stats=True"
            )
        else:
            mean, variance = layer.running_mean.to(like), layer.running_var.to(like)
        factor = (variance + layer.eps).rsqrt()
        factor = factor if layer.weight is None else factor * layer.weight.to(like)
        moved = mean * factor
        shift = -moved if layer.bias is None else layer.bias.to(like) - moved
        size = moved.abs() if layer.bias is None else layer.bias.to(like).abs() + moved.abs()
        shape = (-1, *[1] * (like.ndim - 2))
        return Scale(self.name, *(constant(value.view(shape)) for value in (factor, shift, size)))

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics as a forward pass of torch's layer does."""
        layer = self.layer
        if layer.running_mean is None or layer.running_var is None:
            return
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.add_(1)
        share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum  # type: ignore[arg-type]
        layer.running_mean.lerp_(mean.to(layer.running_mean), share)
        layer.running_var.lerp_((variance * (count / max(count - 1, 1))).to(layer.running_var), share)


@dataclass(frozen=True)
class Dropped:
    """Dropout: the identity in eval mode, one draw for the clean images and their boxes in train mode."""

    name: str
    layer: nn.Module

    def at(self, *x: Tensor) -> Tensor:
        return x[0]

    def fixed(self, clean: Tensor | None, like: Tensor) -> Affine:
        if clean is None or not self.layer.training:
            return Scale(self.name)
        mask = self.layer(torch.ones_like(clean))
        return Average(self.name, lambda x: x * torch.cat([mask] * (len(x) // len(mask))), lambda x: 1)


@dataclass(frozen=True)
class Deviation:
    """Division by the running standard deviation of a `BoxFusion`, which then follows the clean images."""

    name: str
    fusion: BoxFusion

    def at(self, *x: Tensor) -> Tensor:
        return self.fixed(None, x[0]).at(*x)

    def fixed(self, clean: Tensor | None, like: Tensor) -> Scale:
        factor = 1 / self.fusion.deviation().to(like)
        if clean is not None and self.fusion.training:
            self.fusion.follow(clean.detach()[:, 0])
        return Scale(self.name, constant(factor))


MEASURED = (Norm, Dropped, Deviation)


@dataclass(frozen=True)
class BoxLogit:
    """Log-odds by the box alone, `(N, 1)`, which the last channel of the input spells."""

    name: str
    fusion: BoxFusion

    def at(self, *x: Tensor) -> Tensor:
        return self.fusion.box_logit(*box_features(x[0][:, -1:])).to(x[0])[:, None]


@dataclass(frozen=True)
class Input:
    """The images."""

    name: str = "input"

    def at(self, *x: Tensor) -> Tensor:
        return x[0]
