"""Drop-max beside max-pool, each pass apart, with a dense gradient in the input's format, as convolutions give it."""

import itertools
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from benchmarks.timing import Target, timed
from mirst.nn import DropMax2d

SHAPES = ((8, 64, 112, 112), (16, 16, 32, 32))
FORMATS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}


def pooling() -> Iterator[str]:
    for shape, (name, memory_format) in itertools.product(SHAPES, FORMATS.items()):
        x = torch.randn(shape).to(memory_format=memory_format).requires_grad_()
        layers = {"max-pool": nn.MaxPool2d(3, 2, 1), "drop-max": DropMax2d(3, 2, 1)}
        pooled = {title: layer(x) for title, layer in layers.items()}
        gradient = torch.randn(pooled["max-pool"].shape).to(memory_format=memory_format)

        def forward(layer: nn.Module, x: torch.Tensor = x) -> None:
            layer(x)

        def backward(y: torch.Tensor, x: torch.Tensor = x, gradient: torch.Tensor = gradient) -> None:
            torch.autograd.grad(y, x, gradient, retain_graph=True)

        for direction, candidates in (
            ("forward", {title: partial(forward, layer) for title, layer in layers.items()}),
            ("backward", {title: partial(backward, y) for title, y in pooled.items()}),
        ):
            yield timed(
                f"Pooling 3x3 stride 2, {direction}, {shape}, {name}",
                candidates,
                repeats=25 if shape == SHAPES[0] else 200,
                targets=(Target(("drop-max",), ("max-pool",), 1.3),),
            )
