import numpy as np
import torch

from mirst.attacks import PGD
from mirst.evaluation import find_witnesses, witness_images
from tests.helpers import misclassified, on_the_fence, small_batch, small_cnn


def attacked_batch(eps):
    x, y = small_batch()
    model = on_the_fence(small_cnn(), x)
    return (
        model,
        x,
        y,
        PGD(eps=eps, steps=10, step_size=eps / 4, random_start=True)(model, x, y, generator=torch.Generator()),
    )


def test_a_witness_is_a_misclassified_image_in_the_ball():
    model, x, y, attacked = attacked_batch(0.1)
    wrong = misclassified(model, attacked, y)
    assert wrong.sum() >= 3
    eps = np.full(len(x), 0.1)
    found = find_witnesses(model, x, attacked, 1 - y, eps)
    assert (found.found == wrong.numpy()).all()
    images = witness_images(x, found.steps, found.unit)
    assert misclassified(model, images, y)[wrong].all()
    assert float((images - x).abs().max()) <= 0.1 + 1e-6
    assert 0 <= images.min() <= images.max() <= 1
    assert (found.lead[found.found] > 0).all()


def test_what_is_not_misclassified_has_none():
    model, x, y, _ = attacked_batch(0.1)
    correct = ~misclassified(model, x, y)
    assert correct.any()
    found = find_witnesses(model, x, x, 1 - y, np.full(len(x), 0.1))
    assert not found.found[correct.numpy()].any()


def test_the_coarsest_steps_are_kept():
    model, x, y, attacked = attacked_batch(0.1)
    found = find_witnesses(model, x, attacked, 1 - y, np.full(len(x), 0.1))
    levels = np.round(0.1 / found.unit[found.found])
    assert set(levels) <= {1, 3, 15, 127}
    assert 1 in levels
