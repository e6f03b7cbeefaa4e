import copy

import pytest
import torch
from torch import nn

from mirst.defenses import CE, RST
from mirst.errors import MirstError
from mirst.training import AWP, Training, fit
from tests.helpers import small_cnn


def slow_awp_step(model, x, y, gamma, lr):
    """Wu et al. 2020 on plain training, parameter by parameter, with a proxy as in the authors' code."""
    proxy = copy.deepcopy(model).train()
    nn.functional.cross_entropy(proxy(x), y).backward()
    model.train()
    perturbations = []
    with torch.no_grad():
        for weight, probe in zip(model.parameters(), proxy.parameters(), strict=True):
            perturbation = torch.zeros_like(weight)
            if weight.ndim > 1:
                length = sum(value.item() ** 2 for value in weight.flatten()) ** 0.5
                slope = sum(value.item() ** 2 for value in probe.grad.flatten()) ** 0.5
                perturbation = gamma * length * probe.grad / slope
            perturbations.append(perturbation)
            weight += perturbation
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    with torch.no_grad():
        for weight, perturbation in zip(model.parameters(), perturbations, strict=True):
            weight -= lr * weight.grad
            weight -= perturbation
    return loss.item()


def without_dropout():
    model = small_cnn().double()
    model[8] = nn.Identity()
    return model


@pytest.mark.parametrize("gamma", [0.005, 0.5])
def test_steps_are_those_of_the_paper(batch, gamma):
    x, y = batch[0].double(), batch[1]
    model, slow = without_dropout(), without_dropout()
    settings = Training(epochs=3, lr=0.1, optimizer="sgd", schedule="constant", class_weights="none", fast=False)
    result = fit(model, [(x, y)], CE(), settings=settings, extensions=[AWP(gamma=gamma)])
    losses = [slow_awp_step(slow, x, y, gamma, 0.1) for _ in range(3)]
    assert [epoch.loss for epoch in result.history] == pytest.approx(losses, rel=1e-9)
    for a, b in zip(model.state_dict().values(), slow.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_gamma_0_is_training_without_it(batch):
    """No dropout: AWP draws once more."""
    models = [without_dropout().float() for _ in range(2)]
    for model, extensions in zip(models, ([], [AWP(gamma=0.0)]), strict=True):
        fit(model, [batch], RST(steps=2), settings=Training(epochs=3), extensions=extensions)
    states = zip(*(model.state_dict().values() for model in models), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


def test_it_raises_the_loss_that_is_trained_on(batch):
    model = without_dropout().float().train()

    def loss():
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    before = loss().item()
    with AWP(gamma=0.05).around_loss(model, loss):
        assert loss().item() > before + 0.01


def test_a_negative_gamma_gets_a_sentence():
    with pytest.raises(MirstError, match="gamma is -1"):
        AWP(gamma=-1.0)
