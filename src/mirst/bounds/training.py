"""Interval bounds in a training step: those of `mirst.bounds.interval.run`, in fewer and cheaper operations."""

from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from mirst.bounds.backward import Record
from mirst.bounds.boxes import Box
from mirst.bounds.interval import bounded, run
from mirst.bounds.operations import (
    AFFINE,
    MEASURED,
    MONOTONE,
    Convolution,
    Dense,
    Elementwise,
    Norm,
    Operation,
    OrderStatistic,
    Scale,
    constant,
)
from mirst.bounds.program import Program, Step
from mirst.nn.accelerate.interval_training import interval_relu, scaled_batch_norm
from mirst.nn.accelerate.switch import is_optimized


class Parted(Box):
    """A box and the value at the clean images, as three tensors `(N, ...)` that are joined only on demand."""

    def __init__(self, clean: Tensor, centre: Tensor, radius: Tensor) -> None:
        super().__init__(True)
        self._parted = clean, centre, radius

    @classmethod
    def of(cls, box: Box) -> "Parted":
        """`box`, which has clean values."""
        if isinstance(box, cls):
            return box
        clean, centre = box.ball[0].chunk(2)
        return cls(clean, centre, box.radius)

    @property
    def ball(self) -> tuple[Tensor, Tensor]:
        clean, centre, radius = self._parted
        return torch.cat([clean, centre]), radius

    @property
    def ends(self) -> Tensor:
        return torch.cat(self.parts())

    def parts(self) -> tuple[Tensor, ...]:
        clean, centre, radius = self._parted
        return clean, centre - radius, centre + radius

    @property
    def centre(self) -> Tensor:
        return self._parted[1]

    @property
    def clean(self) -> Tensor:
        return self._parted[0]

    @property
    def radius(self) -> Tensor:
        return self._parted[2]


def run_training(program: Program, x: Tensor, lower: Tensor, upper: Tensor, *, relax: bool = False) -> Record:
    """The boxes of the steps, with clean values, for `mirst.bounds.interval.margins`.

    They are those of `run(program, Box.between(lower, upper, x), keep=True)` up to rounding. Two pairs of steps are
    computed at once, and the box between them is not kept: a batch norm in train mode is multiplied into the layer
    before it, and a pool comes before its ReLU, which then has fewer values to pass.

    Args:
        program: of the model.
        x: `(N, C, H, W)` clean images; they need not lie in the box.
        lower, upper: `(N, C, H, W)`, the ends of the box.
        relax: keep the boxes of all steps, which `margins(..., relax=True)` needs.
    """
    if relax or not is_optimized():
        return run(program, Box.between(lower, upper, x), keep=True)
    steps, images = program.steps, Parted(x, (lower + upper) / 2, (upper - lower) / 2)
    firsts = _first_of_pairs(steps)
    record = Record(tuple(step.inputs for step in steps), [], [], None)
    for number, step in enumerate(steps):
        operation: Operation = step.operation
        box: Box | None = None
        if number - 1 in firsts:
            before = steps[number - 1]
            operation, box = _pair(before.operation, operation, Parted.of(record.box(before.inputs[0])))
        elif number not in firsts:
            boxes = [Parted.of(record.box(source)) for source in step.inputs] or [images]
            if isinstance(operation, MEASURED):
                operation = operation.fixed(boxes[0].clean, boxes[0].centre)
            box = _passed(operation, boxes, step.inputs, record)
        record.operations.append(operation)
        record.boxes.append(box)
    return record


def _first_of_pairs(steps: tuple[Step, ...]) -> set[int]:
    """The steps that nothing uses but the next one, and that are computed together with it."""
    uses = [source for step in steps for source in step.inputs]
    return {
        number
        for number, (step, following) in enumerate(pairwise(steps))
        if following.inputs == (number,)
        and uses.count(number) == 1
        and (_is_relu(step.operation) if isinstance(following.operation, OrderStatistic) else _folds(step, following))
    }


def _folds(step: Step, following: Step) -> bool:
    affine, norm = step.operation, following.operation
    return (
        isinstance(affine, Convolution | Dense) and isinstance(norm, Norm) and norm.layer.training and norm.layer.affine
    )


def _is_relu(operation: Operation) -> bool:
    return isinstance(operation, Elementwise) and operation.function is F.relu


def _pair(first: Operation, second: Operation, box: Parted) -> tuple[Operation, Parted]:
    """The second operation of this pass, and the box behind both."""
    if isinstance(second, Norm):
        return _normalised(first, second, box)
    assert isinstance(second, OrderStatistic)
    return second, _relu(_increasing(second, box))


def _normalised(affine: Operation, norm: Norm, box: Parted) -> tuple[Scale, Parted]:
    assert isinstance(affine, Convolution | Dense)
    clean, scale, shift = scaled_batch_norm(affine.at(box.clean), norm.layer)
    weight = affine.weight().to(clean)
    weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    bias = shift if affine.bias is None else shift + scale * affine.bias().to(clean)
    folded = replace(affine, weight=constant(weight), bias=constant(bias))
    shape = (-1, *[1] * (clean.ndim - 2))
    operation = Scale(norm.name, constant(scale.view(shape)), constant(shift.view(shape)))
    return operation, Parted(clean, folded.at(box.centre), folded.linear(box.radius, absolute=True))


def _relu(box: Parted) -> Parted:
    return Parted(F.relu(box.clean), *interval_relu(box.centre, box.radius))


def _increasing(operation: Operation, box: Parted) -> Parted:
    clean, lower, upper = (operation.at(part) for part in box.parts())
    return Parted(clean, (lower + upper) / 2, (upper - lower) / 2)


def _passed(operation: Operation, boxes: list[Parted], sources: tuple[int, ...], record: Record) -> Box:
    if _is_relu(operation):
        return _relu(boxes[0])
    if isinstance(operation, MONOTONE):
        return _increasing(operation, boxes[0])
    if isinstance(operation, AFFINE) and not (isinstance(operation, Dense) and operation.folded):
        clean, centre = operation.at(*(one.clean for one in boxes)), operation.at(*(one.centre for one in boxes))
        return Parted(clean, centre, operation.linear(*(one.radius for one in boxes), absolute=True))
    return bounded(operation, list(boxes), sources, record)
