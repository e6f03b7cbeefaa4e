"""`python -m benchmarks.attacks CHECKPOINT DATA`: robust accuracy and time of attacks beside foolbox and ART."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import foolbox
import numpy as np
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from mirst.attacks import APGD, PGD, Attack, Square
from mirst.attacks.base import PAPER_EPS
from mirst.data import load_images, read_dataset
from mirst.nn import load_model

Crafted = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--eps", type=float, default=PAPER_EPS)
    parser.add_argument("--queries", type=int, default=1000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model, card = load_model(chosen.checkpoint)
    records = read_dataset(chosen.data, card.classes)
    pixels = load_images([record.file for record in records], card.size, card.channels)
    x = torch.from_numpy(pixels).float() / 255
    y = torch.tensor([card.classes.index(record.label) for record in records])
    model.eval()
    print(f"{len(x)} images, {int(_right(model, x, y))} right; eps {chosen.eps:.4f}")
    for name, pair in _pairs(model, x, card.classes, chosen.eps, chosen.queries).items():
        for who, craft in pair.items():
            begin = time.perf_counter()
            crafted = craft(x, y)
            seconds = time.perf_counter() - begin
            assert (crafted - x).abs().max() <= chosen.eps + 1e-6
            print(f"{name:24} {who:8} {int(_right(model, crafted, y)):4} right, {seconds:7.1f} s", flush=True)


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return (model(x).argmax(1) == y).sum()


def _pairs(
    model: nn.Module, x: Tensor, classes: tuple[str, ...], eps: float, queries: int
) -> dict[str, dict[str, Crafted]]:
    art = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), len(classes), clip_values=(0, 1), device_type="cpu"
    )
    fool = foolbox.PyTorchModel(model, bounds=(0, 1))
    pgd = foolbox.attacks.LinfPGD(abs_stepsize=0.001, steps=20, random_start=False)

    def ours(attack: Attack) -> Crafted:
        return lambda x, y: attack(model, x, y, generator=torch.Generator().manual_seed(0))

    def auto(loss: str) -> Crafted:
        attack = AutoProjectedGradientDescent(
            art, eps=eps, eps_step=2 * eps, max_iter=100, loss_type=loss, nb_random_init=1, verbose=False
        )
        return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), np.eye(len(classes))[y.numpy()]))

    square = SquareAttack(art, eps=eps, max_iter=queries, nb_restarts=1, verbose=False)
    pairs: dict[str, dict[str, Crafted]] = {
        "PGD-20": {"mirst": ours(PGD(eps=eps)), "foolbox": lambda x, y: pgd(fool, x, y, epsilons=eps)[1]},
        "APGD, cross-entropy": {"mirst": ours(APGD(eps=eps)), "ART": auto("cross_entropy")},
        "APGD, margin": {"mirst": ours(APGD(eps=eps, loss="margin"))},
        f"Square, {queries} queries": {
            "mirst": ours(Square(eps=eps, queries=queries)),
            "ART": lambda x, y: torch.from_numpy(square.generate(x.numpy(), np.eye(len(classes))[y.numpy()])),
        },
    }
    if len(classes) > 2:
        pairs["APGD, DLR"] = {
            "mirst": ours(APGD(eps=eps, loss="dlr")),
            "ART": auto("difference_logits_ratio"),
        }
    return pairs


if __name__ == "__main__":
    main()
