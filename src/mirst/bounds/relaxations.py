"""Linear bounds of operations that are not linear, over the box of their inputs."""

from torch import Tensor

from mirst.bounds.boxes import Box
from mirst.bounds.operations import Elementwise, OrderStatistic
from mirst.bounds.rounding import Rounding


def relaxed(
    operation: Elementwise | OrderStatistic, rows: Tensor, box: Box, rounding: Rounding | None
) -> tuple[list[Tensor], Tensor]:
    raise NotImplementedError
