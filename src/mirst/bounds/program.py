"""The operations that bounds are computed for, and which of them are composed to one."""

from dataclasses import dataclass

from torch import Tensor

from mirst.bounds.operations import AFFINE, MEASURED, Average, Dense, Operation, Rearrangement


@dataclass(frozen=True)
class Step:
    """One operation, and the steps whose values it takes."""

    operation: Operation
    inputs: tuple[int, ...]


class Program:
    """The operations of a network in the order of their evaluation; the last one gives the logits.

    Made by `trace`. It reads the weights of the model in each pass, so it stays valid while the model is trained or
    moved, but not if its layers are replaced.

    >>> from torch import nn
    >>> from mirst.bounds.graph import trace
    >>> program = trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    >>> [type(step.operation).__name__ for step in program.steps]
    ['Input', 'Rearrangement', 'Dense']
    """

    def __init__(self, steps: list[Step]) -> None:
        self.steps = tuple(steps)
        self.folds = _folds(self.steps)
        """Which steps the affine operations after them are composed with."""
        self.released = _released(self.steps, self.folds)
        """For each step, those whose bounds no later step needs; the last step keeps all that folding it needs."""

    def at(self, x: Tensor) -> Tensor:
        """The logits `(N, K)` at points `(N, C, H, W)`."""
        values: list[Tensor] = []
        for step in self.steps:
            values.append(step.operation.at(*[values[source] for source in step.inputs] or [x]))
        return values[-1]


def _folds(steps: tuple[Step, ...]) -> tuple[bool, ...]:
    """Affine steps, but not averages and rearrangements of what is not affine: these would gain nothing."""
    folds: list[bool] = []
    for step in steps:
        plain = isinstance(step.operation, Average | Rearrangement)
        affine = isinstance(step.operation, (*AFFINE, *MEASURED))
        folds.append(affine and (not plain or any(folds[source] for source in step.inputs)))
    return tuple(folds)


def _released(steps: tuple[Step, ...], folds: tuple[bool, ...]) -> tuple[tuple[int, ...], ...]:
    last_use = list(range(len(steps)))
    for number, step in enumerate(steps):
        folded = isinstance(step.operation, Dense) and step.operation.folded
        for source in _folded_part(steps, folds, step.inputs[0]) if folded else step.inputs:
            last_use[source] = number
    for number in _folded_part(steps, folds, len(steps) - 1):
        last_use[number] = len(steps)
    return tuple(tuple(source for source, use in enumerate(last_use) if use == number) for number in range(len(steps)))


def _folded_part(steps: tuple[Step, ...], folds: tuple[bool, ...], end: int) -> set[int]:
    """A step, those that it is composed with, and the inputs of these."""
    part, todo = set[int](), [end]
    while todo:
        number = todo.pop()
        if number not in part:
            part.add(number)
            todo += steps[number].inputs if folds[number] else ()
    return part
