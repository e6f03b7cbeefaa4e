"""Interval bounds of a network (Gowal et al. 2018, arXiv 1810.12715)."""

from typing import NamedTuple

import torch
from torch import Tensor

from mirst.bounds.backward import Record, lower_bounds
from mirst.bounds.boxes import Box
from mirst.bounds.operations import (
    AFFINE,
    MEASURED,
    MONOTONE,
    Affine,
    BoxLogit,
    Dense,
    Elementwise,
    Input,
    Operation,
    OrderStatistic,
    Rearrangement,
)
from mirst.bounds.program import Program
from mirst.bounds.rounding import UNDERFLOW, Rounding
from mirst.errors import MirstError


def propagate(program: Program, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of the logits, `(N, K)` each, without slack for rounding; `mirst.bounds.margin_bounds` is sound.

    Differentiable with respect to the ends and the weights.

    Args:
        program: of a model in eval mode.
        lower, upper: `(N, C, H, W)`, the ends of the box of each image.

    >>> from mirst.bounds.graph import trace
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
    >>> x = torch.rand(3, 1, 2, 2)
    >>> low, high = propagate(trace(model), x - 0.1, x + 0.1)
    >>> bool((low <= model(x)).all() and (model(x) <= high).all())
    True
    """
    low, high = run(program, Box.between(lower, upper)).box(-1).parts()
    return low, high


class Triple(NamedTuple):
    """What an interval pass in training returns.

    >>> triple = Triple(clean=torch.tensor([[2.0, 0.5]]), margins=torch.tensor([[0.0, 1.0]]))
    >>> round(torch.nn.functional.cross_entropy(-triple.margins, torch.tensor([0])).item(), 2)
    0.31
    """

    clean: Tensor
    """Logits `(N, K)` of the clean images."""
    margins: Tensor
    """Lower bounds `(N, K)` of the logit of the label minus each logit; 0 for the label itself. The robust loss is
    `cross_entropy(-margins, y)`."""


def propagate_training(program: Program, x: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Triple:
    """Clean logits and lower bounds of the margins over a box, for the loss of a training step.

    Batch norms in train mode use the statistics of the clean images for the bounds too, and update their running
    statistics once; gradients flow through the statistics (Mao et al. 2025, arXiv 2406.04848). Clean images and centres
    go through each layer in one call. The difference of the logits is folded into the last layer.

    Args:
        program: of the model, in train or eval mode.
        x: `(N, C, H, W)` clean images; they need not lie in the box.
        lower, upper: `(N, C, H, W)`, the ends of the box.
        y: `(N,)` labels.

    >>> from mirst.bounds.graph import trace
    >>> from mirst.nn import build_model
    >>> program, x = trace(build_model("resnet_tiny", 1, 2)), torch.rand(4, 1, 32, 32)
    >>> y = torch.tensor([0, 1, 1, 0])
    >>> clean, margins = propagate_training(program, x, (x - 0.01).clamp(0, 1), (x + 0.01).clamp(0, 1), y)
    >>> loss = torch.nn.functional.cross_entropy(-margins, y)
    >>> clean.shape, bool(loss > torch.nn.functional.cross_entropy(clean, y))
    (torch.Size([4, 2]), True)
    """
    record = run(program, Box.between(lower, upper, x))
    clean = record.box(-1).clean
    assert clean is not None  # as the box of the images has clean ones
    return Triple(clean, margins(record, y))


def margins(record: Record, y: Tensor, *, relax: bool = False) -> Tensor:
    """Lower bounds `(N, K)` of the logit of the label minus each logit; 0 for the label itself."""
    last = len(record.operations) - 1
    logits = record.box(last).centre
    classes = torch.eye(logits.shape[1]).to(logits)
    rows = classes[y][None] - classes[:, None]
    return lower_bounds(record, last, rows, relax=relax).T.scatter(1, y[:, None], 0.0)


def run(program: Program, box: Box, rounding: Rounding | None = None, *, keep: bool = False) -> Record:
    """The boxes of the steps of a network.

    Args:
        box: of the images.
        rounding: makes the boxes contain what the deployed model computes.
        keep: keep all boxes; else those that `margins` needs without `relax`.
    """
    record = Record(tuple(step.inputs for step in program.steps), [], [], rounding, program.folds)
    for number, step in enumerate(program.steps):
        boxes = [record.box(source) for source in step.inputs] or [box]
        operation = step.operation
        if isinstance(operation, MEASURED):
            operation = operation.fixed(boxes[0].clean, boxes[0].centre)
        record.operations.append(operation)
        record.boxes.append(bounded(operation, boxes, step.inputs, record))
        for released in () if keep else program.released[number]:
            record.boxes[released] = None
    return record


def bounded(operation: Operation, boxes: list[Box], sources: tuple[int, ...], record: Record) -> Box:
    if isinstance(operation, Input):
        return boxes[0]
    if isinstance(operation, BoxLogit):
        return _exact(operation, boxes[0])
    if isinstance(operation, MONOTONE):
        return _monotone(operation, boxes[0], record.rounding)
    if isinstance(operation, Dense) and operation.folded:
        return _folded(operation, boxes[0], sources[0], record)
    if isinstance(operation, Rearrangement) and all(box.has_ends() for box in boxes):
        return Box(boxes[0].has_clean, ends=operation.at(*(box.ends for box in boxes)))
    assert isinstance(operation, AFFINE)
    return _affine(operation, boxes, record.rounding)


def _affine(operation: Affine, boxes: list[Box], rounding: Rounding | None) -> Box:
    points, radii = [box.ball[0] for box in boxes], [box.ball[1] for box in boxes]
    terms = operation.terms(*points)
    if rounding is None or not terms:
        return Box(boxes[0].has_clean, operation.at(*points), operation.linear(*radii, absolute=True))
    share = rounding.share(terms)
    radii = [radius.mul(1 + share).add_(point.abs(), alpha=share) for point, radius in zip(points, radii, strict=True)]
    radius = operation.linear(*radii, absolute=True)
    offset = operation.offset(radius)
    radius = radius + (UNDERFLOW if offset is None else share * offset[1] + UNDERFLOW)
    return Box(False, operation.at(*points), radius)


def _monotone(operation: Elementwise | OrderStatistic, box: Box, rounding: Rounding | None) -> Box:
    ends = operation.at(box.ends)
    if rounding is not None and isinstance(operation, Elementwise) and operation.ulps:
        slack = rounding.of_function(operation.ulps) * (1 + ends.abs())
        low, high = slack.chunk(2)
        ends = ends + torch.cat([-low, high])
    return Box(box.has_clean, ends=ends)


def _folded(operation: Dense, box: Box, source: int, record: Record) -> Box:
    """Bounds of few linear functions of an affine operation's output, composed with it."""
    weight = operation.weight().to(box.centre)
    rows = weight[:, None].expand(-1, len(box.centre), -1)
    low, negative_high = lower_bounds(record, source, torch.cat([rows, -rows]), relax=False).T.chunk(2, 1)
    clean = box.clean
    return Box.between(low, -negative_high, None if clean is None else operation.at(clean))


def _exact(operation: BoxLogit, images: Box) -> Box:
    parts = [operation.at(part) for part in images.parts()]
    if not torch.equal(parts[-2], parts[-1]):
        raise MirstError("the perturbation reaches the box code, which has no bounds; perturb the image channels only")
    return Box(images.has_clean, ends=torch.cat(parts))
