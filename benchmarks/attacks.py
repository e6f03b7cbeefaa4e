"""APGD, FAB and Square beside the same attacks of other libraries, on images that the model classifies correctly.

Budgets are equal, and success is counted by one rule.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

import numpy as np
import torch
import torchattacks
from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from benchmarks.suite import EPS, phantoms, trained_model
from mirst.attacks import APGD, FAB, Attack, Square
from mirst.data import ImageSet

for unused in ("torchvision", "visdom"):  # adv_lib imports them for a distance and a plot that are not used here
    sys.modules.setdefault(unused, ModuleType(unused)).__dict__.setdefault("models", None)
from adv_lib.attacks import apgd, fab  # noqa: E402

IMAGES, STEPS, QUERIES, LIMIT, ROUNDS = 64, 100, 1000, 0.7, 3
Crafted = Callable[[Tensor, Tensor], Tensor]


def attacks() -> Iterator[str]:
    model, images = trained_model(), phantoms(IMAGES, seed=2)
    x = torch.from_numpy(images.images).float() / 255
    y = torch.from_numpy(images.labels).long()
    with torch.no_grad():
        correct = model(x).argmax(1) == y  # a suite attacks no others
    x, y = x[correct], y[correct]
    for title, candidates in _candidates(model, images).items():
        yield _section(title, model, x, y, candidates)


def _section(title: str, model: nn.Module, x: Tensor, y: Tensor, candidates: Mapping[str, Crafted]) -> str:
    """Median seconds of interleaved runs, and how many images each attack makes the model misclassify."""
    seconds: dict[str, list[float]] = {who: [] for who in candidates}
    successes = {}
    for _ in range(ROUNDS):
        for who, craft in candidates.items():
            begin = time.perf_counter()
            attacked = craft(x, y)
            seconds[who].append(time.perf_counter() - begin)
            successes[who] = _successes(model, x, y, attacked)
    medians = {who: float(np.median(times)) for who, times in seconds.items()}
    equal = [who for who in candidates if who != "mirst" and successes[who] >= successes["mirst"]]
    lines = [
        f"### {title}, resnet_tiny trained by RST on phantoms of 64 px, {len(x)} images, eps 5/255; "
        f"{torch.get_num_threads()} thread(s), medians of {ROUNDS}",
        "",
        "| | misclassified | s |",
        "|---|---|---|",
        *(f"| {who} | {successes[who]} | {medians[who]:.2f} |" for who in candidates),
        "",
    ]
    if not equal:
        return "\n".join([*lines, "No other attack misclassifies as many images.", ""])
    ratio = medians["mirst"] / min(medians[who] for who in equal)
    reached = "reached" if ratio <= LIMIT else "missed"
    return "\n".join(
        [
            *lines,
            f"mirst / the fastest of equal or better success: **{ratio:.2f}**, target at most {LIMIT}: {reached}.",
            "",
        ]
    )


def _successes(model: nn.Module, x: Tensor, y: Tensor, attacked: Tensor) -> int:
    """Images that are misclassified within eps, up to rounding."""
    inside = (attacked - x).abs().flatten(1).amax(1) <= EPS + 1e-6
    with torch.no_grad():
        return int((inside & (model(attacked).argmax(1) != y)).sum())


def _candidates(model: nn.Module, images: ImageSet) -> dict[str, dict[str, Crafted]]:
    art = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), images.images.shape[1:], 2, clip_values=(0, 1), device_type="cpu"
    )

    def ours(attack: Attack) -> Crafted:
        return lambda x, y: attack(model, x, y, generator=torch.Generator().manual_seed(0))

    def arts(attack: AutoProjectedGradientDescent | SquareAttack) -> Crafted:
        return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), np.eye(2, dtype=np.float32)[y.numpy()]))

    by_art = {"eps": EPS, "max_iter": STEPS, "batch_size": IMAGES, "verbose": False}
    return {
        f"APGD on the cross-entropy, {STEPS} steps": {
            "torchattacks": torchattacks.APGD(model, eps=EPS, steps=STEPS, n_restarts=1, loss="ce"),
            "adversarial-library": lambda x, y: apgd(model, x, y, EPS, norm=math.inf, n_iter=STEPS, loss_function="ce"),
            "ART": arts(
                AutoProjectedGradientDescent(
                    art, eps_step=2 * EPS, loss_type="cross_entropy", nb_random_init=1, **by_art
                )
            ),
            "mirst": ours(APGD(eps=EPS, steps=STEPS)),
        },
        f"FAB, {STEPS} steps": {
            "torchattacks": torchattacks.FAB(model, eps=EPS, steps=STEPS, n_restarts=1, n_classes=2),
            "adversarial-library": lambda x, y: fab(model, x, y, norm=math.inf, n_iter=STEPS),
            "mirst": ours(FAB(eps=EPS, steps=STEPS)),
        },
        f"Square, {QUERIES} queries": {
            "torchattacks": torchattacks.Square(model, eps=EPS, n_queries=QUERIES, n_restarts=1),
            "ART": arts(SquareAttack(art, eps=EPS, max_iter=QUERIES, nb_restarts=1, batch_size=IMAGES, verbose=False)),
            "mirst": ours(Square(eps=EPS, queries=QUERIES)),
        },
    }
