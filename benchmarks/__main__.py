"""`make bench`: drop-max beside max-pool, PGD beside foolbox, MIRST beside RST, each as ratios in one run."""

import itertools

import foolbox
import torch
from torch import nn

from benchmarks.timing import print_ratios
from mirst.attacks import PGD
from mirst.defenses import CE, MIRST, RST, Defense
from mirst.nn import DropMax2d, build_model


def drop_max() -> None:
    formats = (torch.contiguous_format, torch.channels_last)
    for shape, memory_format in itertools.product([(8, 64, 112, 112), (16, 16, 32, 32)], formats):
        x = torch.randn(shape).to(memory_format=memory_format).requires_grad_()

        def pool(layer: nn.Module, x: torch.Tensor = x) -> None:
            layer(x).sum().backward()

        print_ratios(
            f"pooling 3x3 stride 2, forward and backward, {shape}, {memory_format}",
            {
                "max-pool": lambda pool=pool: pool(nn.MaxPool2d(3, 2, 1)),
                "drop-max": lambda pool=pool: pool(DropMax2d(3, 2, 1)),
            },
            repeats=15,
        )


def pgd() -> None:
    model = build_model("resnet18", 3, 2).eval()
    theirs = foolbox.PyTorchModel(model, bounds=(0, 1))
    reference = foolbox.attacks.LinfPGD(abs_stepsize=0.001, steps=10, random_start=False)
    x, y = torch.rand(32, 3, 64, 64), torch.arange(32) % 2
    print_ratios(
        "PGD, 10 steps, resnet18, 64 px, batch 32",
        {
            "foolbox": lambda: reference(theirs, x, y, epsilons=5 / 255),
            "mirst": lambda: PGD(steps=10)(model, x, y),
        },
        repeats=5,
    )


def training_step() -> None:
    model = build_model("resnet_tiny", 1, 2).train()
    x, y = torch.rand(16, 1, 64, 64), torch.arange(16) % 2

    def step(defense: Defense) -> None:
        model.zero_grad()
        defense(model, x, y).total.backward()

    print_ratios(
        "training step, resnet_tiny, 64 px, batch 16",
        {
            "rst": lambda: step(RST()),
            "mirst": lambda: step(MIRST()),
            "ce": lambda: step(CE()),
        },
        repeats=15,
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    drop_max()
    pgd()
    training_step()
