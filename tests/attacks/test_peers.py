"""APGD and Square against the Adversarial Robustness Toolbox."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn

from mirst.attacks import APGD, Square
from tests.helpers import misclassified, on_the_fence, seeded, small_cnn

IMAGES = 48


class Bench:
    """A model, images that it classifies rightly, and how many survive an attack."""

    def __init__(self, classes: int) -> None:
        self.x = torch.rand(IMAGES, 1, 16, 16, generator=seeded())
        self.model = on_the_fence(small_cnn(classes=classes), self.x)
        self.y = self.model(self.x).argmax(1)
        from art.estimators.classification import PyTorchClassifier  # for seconds, in each process of a test run

        self.arts = PyTorchClassifier(
            self.model,
            loss=nn.CrossEntropyLoss(),
            input_shape=(1, 16, 16),
            nb_classes=classes,
            clip_values=(0, 1),
            device_type="cpu",
        )

    def robust(self, attacked) -> int:
        return int((~misclassified(self.model, torch.as_tensor(attacked), self.y)).sum())

    def ours(self, attack, seed=0) -> int:
        return self.robust(attack(self.model, self.x, self.y, generator=seeded(seed)))

    def theirs(self, attack, seed=0, **fields) -> int:
        np.random.seed(seed)  # noqa: NPY002, ART draws from the global state
        attack = getattr(importlib.import_module("art.attacks.evasion"), attack)(
            self.arts, norm=np.inf, batch_size=IMAGES, verbose=False, **fields
        )
        return self.robust(attack.generate(self.x.numpy(), self.y.numpy()))


LOSSES = [(2, "ce", "cross_entropy"), (3, "ce", "cross_entropy"), (3, "dlr", "difference_logits_ratio")]


@pytest.mark.parametrize(("classes", "loss", "arts_loss"), LOSSES)
@pytest.mark.parametrize(("eps", "steps"), [(0.005, 10), (0.02, 30)])
def test_apgd_leaves_no_more_unbroken_than_arts(classes, loss, arts_loss, eps, steps):
    bench = Bench(classes)
    theirs = bench.theirs(
        "AutoProjectedGradientDescent",
        eps=eps,
        eps_step=2 * eps,
        max_iter=steps,
        nb_random_init=1,
        loss_type=arts_loss,
    )
    assert 0 < theirs < IMAGES
    assert bench.ours(APGD(eps=eps, steps=steps, loss=loss)) <= theirs + 1


@pytest.mark.parametrize("classes", [2, 3])
def test_square_breaks_as_many_as_arts(classes):
    """On average over the draws: a single run of either scatters by an image or two."""
    bench, fields = Bench(classes), {"eps": 0.01}
    ours = np.mean([bench.ours(Square(queries=200, **fields), seed) for seed in range(4)])
    theirs = np.mean(
        [bench.theirs("SquareAttack", seed, max_iter=200, p_init=0.8, nb_restarts=1, **fields) for seed in range(4)]
    )
    assert 0 < theirs < IMAGES
    assert abs(ours - theirs) <= 1
