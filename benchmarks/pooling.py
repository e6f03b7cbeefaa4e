"""Drop-max beside max-pool."""

import itertools
from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.timing import Target, timed
from mirst.nn import DropMax2d

SHAPES = ((8, 64, 112, 112), (16, 16, 32, 32))
FORMATS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}


def pooling() -> Iterator[str]:
    for shape, (name, memory_format) in itertools.product(SHAPES, FORMATS.items()):
        x = torch.randn(shape).to(memory_format=memory_format).requires_grad_()

        def forward_and_backward(layer: nn.Module, x: torch.Tensor = x) -> None:
            layer(x).sum().backward()

        yield timed(
            f"Pooling 3x3 stride 2, forward and backward, {shape}, {name}",
            {
                "max-pool": lambda run=forward_and_backward: run(nn.MaxPool2d(3, 2, 1)),
                "drop-max": lambda run=forward_and_backward: run(DropMax2d(3, 2, 1)),
            },
            repeats=25,
            targets=(Target("drop-max", ("max-pool",), 1.3),),
        )
