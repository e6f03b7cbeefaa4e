"""PGD beside the same attack of torchattacks, foolbox and ART."""

from collections.abc import Iterator

import foolbox
import numpy as np
import torch
import torchattacks
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from benchmarks.timing import Candidates, Target, timed
from mirst.attacks import PGD
from mirst.attacks.base import PAPER_EPS
from mirst.nn import build_model

SETTINGS = (("resnet50", 128, 8, 0.75), ("resnet18", 64, 32, 0.7))
STEP_SIZE, STEPS = 0.001, 20


def peers() -> Iterator[str]:
    for name, size, batch, limit in SETTINGS:
        model = settled(build_model(name, 3, 2), size)
        x, y = torch.rand(batch, 3, size, size), torch.arange(batch) % 2
        yield timed(
            f"PGD, {STEPS} steps, {name}, {size} px, batch {batch}",
            candidates(model, x, y),
            repeats=3,
            targets=(Target(("mirst",), ("torchattacks", "foolbox", "ART"), limit),),
        )


def settled(model: nn.Module, size: int) -> nn.Module:
    """In eval mode, with batch-norm statistics of its own."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(8, 3, size, size))
    return model.eval()


def candidates(model: nn.Module, x: Tensor, y: Tensor) -> Candidates:
    """The attack by whom, the peers first."""
    fool = foolbox.PyTorchModel(model, bounds=(0, 1))
    theirs = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=False)
    attacks = torchattacks.PGD(model, eps=PAPER_EPS, alpha=STEP_SIZE, steps=STEPS, random_start=False)
    art = ProjectedGradientDescentPyTorch(
        PyTorchClassifier(model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 2, clip_values=(0, 1), device_type="cpu"),
        eps=PAPER_EPS,
        eps_step=STEP_SIZE,
        max_iter=STEPS,
        batch_size=len(x),
        verbose=False,
    )
    pixels, labels = x.numpy(), np.eye(2, dtype=np.float32)[y.numpy()]
    return {
        "torchattacks": lambda: attacks(x, y),
        "foolbox": lambda: theirs(fool, x, y, epsilons=PAPER_EPS)[1],
        "ART": lambda: torch.from_numpy(art.generate(pixels, labels)),
        "mirst": lambda: PGD(eps=PAPER_EPS, step_size=STEP_SIZE, steps=STEPS)(model, x, y),
    }
