import pytest
import torch

from mirst.defenses import GR
from tests.defenses.oracle import (
    Smooth,
    assert_same_loss_and_gradients,
    cross_entropy,
    input_gradient,
    of_parameters,
)
from tests.helpers import small_cnn


@pytest.mark.parametrize("weight", [1.0, 30.0])
def test_loss_and_gradients_equal_a_slow_transcription(weight, batch):
    x, y = batch[0].double(), batch[1]
    ours, theirs = (small_cnn().double().eval() for _ in range(2))
    total = GR(weight=weight)(ours, x, y).total
    expected = 0.0
    for image, label in zip(x, y, strict=True):
        penalty = (input_gradient(theirs, image, label, keep=True) ** 2).sum()
        expected = expected + cross_entropy(theirs, image, label) + weight * penalty
    assert_same_loss_and_gradients(ours, total, theirs, expected / len(x))


def test_the_penalty_is_the_squared_slope_of_the_loss_in_the_pixels():
    """By central differences, pixel after pixel."""
    model, x, y, h = Smooth(), torch.rand(2, 1, 6, 6, dtype=torch.float64), torch.tensor([2, 0]), 1e-5
    total = 0.0
    for image, label in zip(x, y, strict=True):
        for i in range(36):
            shift = torch.zeros(36, dtype=torch.float64)
            shift[i] = h
            up, down = (cross_entropy(model, image + s * shift.view(1, 6, 6), label) for s in (1, -1))
            total += ((up - down) / (2 * h)).item() ** 2
    assert GR()(model, x, y).terms["gradient"] == pytest.approx(total / 2, rel=1e-6)


def test_gradcheck():
    x, y = torch.rand(2, 1, 6, 6, dtype=torch.float64), torch.tensor([2, 0])
    call, parameters = of_parameters(Smooth(), lambda model: GR(weight=7.0)(model, x, y).total)
    assert torch.autograd.gradcheck(call, parameters)
