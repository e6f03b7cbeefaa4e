"""Affine operations, each with its matrix, its transpose, and what its rounding errors depend on."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from mirst.errors import MirstError

Number = Callable[[], Tensor]
"""A parameter or a number, read anew in each pass, so that bounds follow a training."""
Map = Callable[..., Tensor]
SUM = 2
"""Roundings of a sum of products besides those of the products: the bias, and for logits an operating point."""


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


def constant(value: Any) -> Number:
    """A number or tensor as operations read it. A Python number is not rounded to float32."""
    return lambda: value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)


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
        return SUM + self.after + max(self.weight()[0].numel(), self.weight()[:, 0].numel())


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
        return SUM + max(self.weight().shape)


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
        if x[0].ndim != x[1].ndim:
            raise MirstError(f"{self.name} adds values of {x[0].ndim} and {x[1].ndim} axes; give both the same")
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
class _Function(ABC):
    """A linear map without negative coefficients, so its absolute coefficients are its coefficients."""

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

    @abstractmethod
    def terms(self, *x: Tensor) -> int:
        """As `Affine.terms`."""


@dataclass(frozen=True)
class Average(_Function):
    """A linear map without negative coefficients, which sum to at most 1 for each output: means and average pools.

    `count` is the number of values in each mean, at most, for an input.
    """

    count: Callable[[Tensor], int]

    def terms(self, *x: Tensor) -> int:
        return 2 + self.count(x[0])


@dataclass(frozen=True)
class Rearrangement(_Function):
    """Values that are moved, joined, repeated, left out or padded with 0, without arithmetic."""

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
