"""Linear bounds of the outputs, pulled back through the operations of a network."""

from dataclasses import dataclass

from torch import Tensor

from mirst.bounds.boxes import Box
from mirst.bounds.operations import AFFINE, MONOTONE, Affine, Operation
from mirst.bounds.relaxations import product, relaxed
from mirst.bounds.rounding import DOUBLE, UNDERFLOW, Rounding, gamma


@dataclass
class Record:
    """What an interval pass leaves: the operations as they were, and the boxes of the steps that are needed later."""

    inputs: tuple[tuple[int, ...], ...]
    operations: list[Operation]
    boxes: list[Box | None]
    rounding: Rounding | None
    folds: tuple[bool, ...] = ()
    """Which steps are composed with the affine ones after them; all, if empty."""

    def box(self, step: int) -> Box:
        """The box of a step that was kept."""
        box = self.boxes[step]
        assert box is not None, f"the box of step {step} was not kept"
        return box


def lower_bounds(record: Record, step: int, rows: Tensor, *, relax: bool) -> Tensor:
    """Lower bounds of linear functions of a step's value, `(S, N)`.

    Affine operations at the end are composed exactly, so that differences of their outputs are bounded as such. In
    front of them the function is bounded by the box of the value; with `relax` by linear functions of the inputs of
    each operation, back to the images.

    Args:
        rows: `(S, N, ...)`, the coefficients.
        relax: the boxes of all steps must have been kept.

    Source: CROWN, Zhang et al. 2018 (arXiv 1811.00866); with interval bounds inside, Zhang et al. 2020 (1906.06316).
    """
    pending = {step: rows}
    total = rows.new_zeros(rows.shape[:2])
    for number in range(step, -1, -1):
        if number not in pending:
            continue
        rows, operation = pending.pop(number), record.operations[number]
        if isinstance(operation, AFFINE) and (relax or not record.folds or record.folds[number]):
            boxes = [record.box(source) for source in record.inputs[number]]
            pulled, added = _through_affine(operation, rows, boxes, record.rounding)
        elif relax and isinstance(operation, MONOTONE):
            (source,) = record.inputs[number]
            pulled, added = relaxed(operation, rows, record.box(source), record.rounding)
        else:
            pulled, added = [], _least(rows, record.box(number), record.rounding)
        total = total + added
        for source, part in zip(record.inputs[number], pulled, strict=False):
            pending[source] = pending[source] + part if source in pending else part
    return total if record.rounding is None else total - gamma(4 * len(record.operations), DOUBLE) * total.abs()


def _least(rows: Tensor, box: Box, rounding: Rounding | None) -> Tensor:
    """The least value of the rows over a box."""
    centre, radius = box.centre, box.radius
    if rounding is not None:
        radius = radius + gamma(2 * (rows[0, 0].numel() + 4), DOUBLE) * box.size
    return product(rows, centre) - product(rows.abs(), radius)


def _through_affine(
    operation: Affine, rows: Tensor, boxes: list[Box], rounding: Rounding | None
) -> tuple[list[Tensor], Tensor]:
    """The rows in front of an affine operation, and the constant: that of the operation, less its rounding errors."""
    inputs = [box.centre for box in boxes]
    pulled = [part.view(*rows.shape[:2], *part.shape[1:]) for part in operation.transposed(rows.flatten(0, 1), *inputs)]
    offset = operation.offset(boxes[0].centre)
    added = rows.new_zeros(rows.shape[:2])
    if offset is not None:
        added = product(rows, offset[0].expand(rows.shape[1:]))
    if rounding is not None:
        sizes = operation.linear(*(box.size for box in boxes), absolute=True)
        sizes = sizes if offset is None else sizes + offset[1]
        share = rounding.share(operation.terms(*inputs)) + gamma(2 * rows[0, 0].numel(), DOUBLE)
        added = added - product(rows.abs(), share * sizes + UNDERFLOW)
    return pulled, added
