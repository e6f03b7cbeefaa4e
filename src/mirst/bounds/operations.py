"""The operations that a traced network consists of, each with what bounds need to know about it.

There are four kinds. `Affine` operations map a box to a box through their absolute linear part. `Monotone` operations
map the ends of an interval to the ends of an interval. A `Measured` operation becomes one of the others when its
statistics are known. `BoxLogit` reads the box code, which no perturbation of the pixels changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from mirst.errors import MirstError
from mirst.nn.box_fusion import BoxFusion, box_features

Number = Callable[[], Tensor]
"""A parameter or a number, read anew in each pass, so that bounds follow a training."""
Map = Callable[..., Tensor]


class Operation(Protocol):
    """What every operation can do."""

    @property
    def name(self) -> str:
        """Qualified name of its layer, or of the layer that contains it, for messages."""

    def at(self, *x: Tensor) -> Tensor:
        """The value at points, `(N, ...)` each."""


class Affine(Operation, Protocol):
    """A linear map of one or several values, plus a constant."""

    def linear(self, *x: Tensor, absolute: bool = False) -> Tensor:
        """The map without its constant; with `absolute`, every coefficient is replaced by its absolute value."""

    def transposed(self, rows: Tensor, *x: Tensor) -> list[Tensor]:
        """The rows `(M, ...)` times the matrix of the map: rows for each input, whose shapes are those of `x`."""

    def offset(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """The constant and an upper bound of the absolute values that are summed to it, broadcastable to the output."""

    def terms(self, *x: Tensor) -> int:
        """Number of roundings on the way from an input to an output, at most; 0 for a rearrangement."""


@dataclass(frozen=True)
class Convolution:
    """`F.conv2d` with zero padding."""

    name: str
    weight: Number
    bias: Number | None
    geometry: tuple[Any, ...]
    """stride, padding, dilation, groups."""
    size: Number | None = None
    """An upper bound of the absolute values whose sum is the bias, if it is a sum."""
    after: int = 0
    """Roundings that the model makes after the convolution, where a batch norm is multiplied into it."""

    def at(self, *x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias().to(x[0])
        return F.conv2d(x[0], self.weight().to(x[0]), bias, *self.geometry)

    def linear(self, *x: Tensor, absolute: bool = False) -> Tensor:
        weight = self.weight().to(x[0])
        return F.conv2d(x[0], weight.abs() if absolute else weight, None, *self.geometry)

    def transposed(self, rows: Tensor, *x: Tensor) -> list[Tensor]:
        stride, padding, dilation, groups = self.geometry
        if isinstance(padding, str):
            return _transposed(self, rows, *x)
        shape, weight = (len(rows), *x[0].shape[1:]), self.weight().to(rows)
        return [conv2d_input(shape, weight, rows, stride, padding, dilation, groups)]  # type: ignore[no-untyped-call]

    def offset(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.bias is None:
            return None
        bias = self.bias().to(like)[:, None, None]
        return bias, bias.abs() if self.size is None else self.size().to(like)[:, None, None]

    def terms(self, *x: Tensor) -> int:
        return 1 + self.after + max(self.weight()[0].numel(), self.weight()[:, 0].numel())


@dataclass(frozen=True)
class Dense:
    """`F.linear` of the last axis. With `folded` its bounds are those of its composition with what is before it."""

    name: str
    weight: Number
    bias: Number | None = None
    folded: bool = False

    def at(self, *x: Tensor) -> Tensor:
        return F.linear(x[0], self.weight().to(x[0]), None if self.bias is None else self.bias().to(x[0]))

    def linear(self, *x: Tensor, absolute: bool = False) -> Tensor:
        weight = self.weight().to(x[0])
        return F.linear(x[0], weight.abs() if absolute else weight)

    def transposed(self, rows: Tensor, *x: Tensor) -> list[Tensor]:
        return [rows @ self.weight().to(rows)]

    def offset(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.bias is None:
            return None
        bias = self.bias().to(like)
        return bias, bias.abs()

    def terms(self, *x: Tensor) -> int:
        return 1 + max(self.weight().shape)


@dataclass(frozen=True)
class Scale:
    """`factor * x + shift`, broadcast. `size` bounds the absolute values whose sum is `shift`."""

    name: str
    factor: Number | None = None
    shift: Number | None = None
    size: Number | None = None

    def at(self, *x: Tensor) -> Tensor:
        if self.factor is None:
            return x[0] if self.shift is None else x[0] + self.shift().to(x[0])
        factor = self.factor().to(x[0])
        return x[0] * factor if self.shift is None else torch.addcmul(self.shift().to(x[0]), x[0], factor)

    def linear(self, *x: Tensor, absolute: bool = False) -> Tensor:
        if self.factor is None:  # the shift may have more channels than the input
            shift = None if self.shift is None else self.shift()
            return x[0] if shift is None else x[0] * torch.ones_like(shift, dtype=x[0].dtype)
        factor = self.factor().to(x[0])
        return x[0] * (factor.abs() if absolute else factor)

    def transposed(self, rows: Tensor, *x: Tensor) -> list[Tensor]:
        scaled = rows if self.factor is None else rows * self.factor().to(rows)
        return [scaled.sum_to_size(len(rows), *x[0].shape[1:])]

    def offset(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.shift is None:
            return None
        shift = self.shift().to(like)
        return shift, shift.abs() if self.size is None else self.size().to(like)

    def terms(self, *x: Tensor) -> int:
        return 6


@dataclass(frozen=True)
class Sum:
    """The sum of two values, or the difference."""

    name: str
    sign: int = 1

    def at(self, *x: Tensor) -> Tensor:
        return torch.add(x[0], x[1], alpha=self.sign)

    def linear(self, *x: Tensor, absolute: bool = False) -> Tensor:
        return torch.add(x[0], x[1], alpha=1 if absolute else self.sign)

    def transposed(self, rows: Tensor, *x: Tensor) -> list[Tensor]:
        shapes = [(len(rows), *value.shape[1:]) for value in x]
        return [rows.sum_to_size(shapes[0]), (self.sign * rows).sum_to_size(shapes[1])]

    def offset(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        return None

    def terms(self, *x: Tensor) -> int:
        return 1


@dataclass(frozen=True)
class Average:
    """A linear map without negative coefficients, which sum to at most 1 for each output: means and average pools."""

    name: str
    function: Map

    def at(self, *x: Tensor) -> Tensor:
        return self.function(*x)

    def linear(self, *x: Tensor, absolute: bool = False) -> Tensor:
        return self.function(*x)

    def transposed(self, rows: Tensor, *x: Tensor) -> list[Tensor]:
        return _transposed(self, rows, *x)

    def offset(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        return None

    def terms(self, *x: Tensor) -> int:
        return 2 + x[0][0].numel()


@dataclass(frozen=True)
class Rearrangement:
    """Values that are moved, joined, repeated, left out or padded with 0, without arithmetic."""

    name: str
    function: Map

    def at(self, *x: Tensor) -> Tensor:
        return self.function(*x)

    def linear(self, *x: Tensor, absolute: bool = False) -> Tensor:
        return self.function(*x)

    def transposed(self, rows: Tensor, *x: Tensor) -> list[Tensor]:
        return _transposed(self, rows, *x)

    def offset(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        return None

    def terms(self, *x: Tensor) -> int:
        return 0


def _transposed(operation: Affine, rows: Tensor, *x: Tensor) -> list[Tensor]:
    """`Affine.transposed` of any map, as the gradient of the map at 0."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        zeros = [torch.zeros(len(rows), *value.shape[1:]).to(value).requires_grad_() for value in x]
        outputs = operation.linear(*zeros)
    return list(torch.autograd.grad(outputs, zeros, rows, create_graph=differentiable))


AFFINE = (Convolution, Dense, Scale, Sum, Average, Rearrangement)


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
        return Average(self.name, lambda x: x * torch.cat([mask] * (len(x) // len(mask))))


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


def constant(value: Any) -> Number:
    """A number or tensor as operations read it."""
    return lambda: torch.as_tensor(value)
