"""A network that no longer changes: its batch norms multiplied into the convolutions before them, in float64."""

import torch

from mirst.bounds.operations import Convolution, Norm, constant
from mirst.bounds.program import Program, Step


def settled(program: Program) -> Program:
    """`program`, of a model in eval mode, with the weights that it has now; it is bounded in half of the time.

    The slack for rounding is that of the convolution and the batch norm as the model computes them, one after the
    other.
    """
    uses = [source for step in program.steps for source in step.inputs]
    made: list[Step] = []
    moved: list[int] = []
    """The new number of each step."""
    for step in program.steps:
        inputs, operation = tuple(moved[source] for source in step.inputs), step.operation
        before = program.steps[step.inputs[0]].operation if step.inputs else None
        if isinstance(operation, Norm) and isinstance(before, Convolution) and uses.count(step.inputs[0]) == 1:
            made[inputs[0]] = Step(_merged(before, operation), made[inputs[0]].inputs)
            moved.append(inputs[0])
            continue
        made.append(Step(operation, inputs))
        moved.append(len(made) - 1)
    return Program(made)


def _merged(convolution: Convolution, norm: Norm) -> Convolution:
    weight = convolution.weight().detach().double()
    scale = norm.fixed(None, weight)
    offset = scale.offset(weight)
    assert scale.factor is not None
    assert offset is not None  # a batch norm subtracts the mean
    factor, shift, size = scale.factor().detach().flatten(), offset[0].detach().flatten(), offset[1].detach().flatten()
    if convolution.bias is not None:
        moved = factor * convolution.bias().detach().double()
        shift, size = shift + moved, size + moved.abs()
    weight = weight * factor.view(-1, 1, 1, 1)
    return Convolution(
        norm.name,
        constant(weight),
        constant(shift),
        convolution.geometry,
        size=constant(size),
        after=scale.terms(torch.empty(0)),
    )
