"""FGSM, PGD and CW against independent implementations and a closed form."""

import pytest
import torch
from torch import nn

from mirst.attacks import CW, FGSM, PGD
from mirst.errors import MirstError
from tests.helpers import small_cnn


@pytest.fixture
def double_batch(batch):
    x, y = batch
    return x.double(), y


@pytest.mark.parametrize("eps", [1 / 255, 5 / 255, 0.2])
def test_fgsm_equals_foolbox(eps, double_batch):
    import foolbox

    x, y = double_batch
    model = small_cnn(classes=3).double().eval()
    _, theirs, _ = foolbox.attacks.FGSM(random_start=False)(
        foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=eps
    )
    torch.testing.assert_close(FGSM(eps=eps)(model, x, y), theirs)


@pytest.mark.parametrize(("eps", "step_size", "steps"), [(5 / 255, 0.001, 20), (8 / 255, 2 / 255, 10), (0.3, 0.01, 7)])
def test_pgd_equals_foolbox(eps, step_size, steps, double_batch):
    import foolbox

    x, y = double_batch
    model = small_cnn(classes=3).double().eval()
    reference = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=False)
    _, theirs, _ = reference(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=eps)
    torch.testing.assert_close(PGD(eps=eps, step_size=step_size, steps=steps)(model, x, y), theirs)


def test_cw_equals_foolbox_on_the_margin(double_batch):
    import foolbox

    class MarginPGD(foolbox.attacks.LinfPGD):
        def get_loss_fn(self, model, labels):
            def loss(inputs):
                logits = model(inputs).raw
                rows = torch.arange(len(logits))
                own = logits[rows, labels.raw]
                masked = logits.clone()
                masked[rows, labels.raw] = -torch.inf
                return foolbox.models.base.ep.astensor((masked.amax(1) - own).sum())

            return loss

    x, y = double_batch
    model = small_cnn(classes=3).double().eval()
    reference = MarginPGD(abs_stepsize=0.001, steps=10, random_start=False)
    _, theirs, _ = reference(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=5 / 255)
    torch.testing.assert_close(CW()(model, x, y), theirs)


def linear_optimum(weight, x, eps):
    """The point of the ball, clipped to [0, 1], that a linear score `weight . x` is largest at."""
    return (x + eps * weight.sign()).clamp(0, 1)


@pytest.mark.parametrize("attack", [FGSM(eps=0.1), PGD(eps=0.1, step_size=0.02), CW(eps=0.1, step_size=0.02)])
def test_a_linear_model_is_attacked_optimally(attack):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(16, 1, 8, 8, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    model[1].weight.data = torch.randn(2, 64, generator=generator)
    y = torch.zeros(16, dtype=torch.long)
    direction = (model[1].weight[1] - model[1].weight[0]).detach().view(1, 1, 8, 8)
    torch.testing.assert_close(attack(model, x, y), linear_optimum(direction, x, 0.1))


def test_the_papers_cw_stops_half_way(model, batch):
    x, y = batch
    assert (CW()(model, x, y) - x).abs().max() <= 0.010001
    assert (PGD()(model, x, y) - x).abs().max() > 0.0196


def test_with_two_classes_the_papers_cw_is_pgds_first_ten_steps(model, batch):
    torch.testing.assert_close(CW()(model, *batch), PGD(steps=10)(model, *batch))


def test_defaults_are_the_papers_evaluation():
    assert FGSM().eps == PGD().eps == CW().eps == 5 / 255
    assert (PGD().steps, PGD().step_size) == (20, 0.001)
    assert (CW().steps, CW().step_size) == (10, 0.001)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"step_size": 0.0}, {"step_size": -0.1}])
def test_an_attack_that_cannot_move_is_refused(fields):
    with pytest.raises(MirstError, match=next(iter(fields))):
        PGD(**fields)
