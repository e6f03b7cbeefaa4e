"""CROWN-IBP against a slow transcription with matrices, image by image."""

import pytest
import torch
from torch import nn

from mirst.defenses import CROWNIBP, IBP
from tests.defenses.oracle import assert_same_loss_and_gradients
from tests.helpers import seeded

EPS = 0.05


def perceptron():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(9, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)
        ).double()


def images():
    return torch.rand(5, 1, 3, 3, generator=seeded(7), dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])


def affine_layers(model, clean):
    """Weights and biases, the batch norm multiplied into the first ones with the statistics of the clean images."""
    first, norm, second, third = model[1], model[2], model[4], model[6]
    before = clean @ first.weight.T + first.bias
    mean = before.mean(0) if norm.training else norm.running_mean
    variance = ((before - mean) ** 2).mean(0) if norm.training else norm.running_var
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return [
        (scale[:, None] * first.weight, scale * (first.bias - mean) + norm.bias),
        (second.weight, second.bias),
        (third.weight, third.bias),
    ]


def interval(weight, bias, low, high):
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    return positive @ low + negative @ high + bias, positive @ high + negative @ low + bias


def slow_margin(layers, low, high, label, other):
    """The lower bounds of `logit_label - logit_other`, by CROWN-IBP and by intervals."""
    images_low, images_high, before = low, high, []
    for weight, bias in layers[:-1]:
        low, high = interval(weight, bias, low, high)
        before.append((low, high))
        low, high = low.clamp(min=0), high.clamp(min=0)
    weight, bias = layers[-1]
    row, constant = weight[label] - weight[other], bias[label] - bias[other]
    by_intervals = (row.clamp(min=0) * low + row.clamp(max=0) * high).sum() + constant
    for (weight, bias), (low, high) in reversed(list(zip(layers[:-1], before, strict=True))):
        pulled = []
        for coefficient, l_end, u_end in zip(row, low, high, strict=True):
            if l_end >= 0:
                pulled.append(coefficient)
            elif u_end <= 0:
                pulled.append(torch.zeros(()).double())
            elif coefficient >= 0:
                pulled.append(coefficient * float(u_end > -l_end))
            else:
                slope = u_end / (u_end - l_end)
                pulled.append(coefficient * slope)
                constant = constant - coefficient * slope * l_end
        row = torch.stack(pulled)
        constant = constant + row @ bias
        row = row @ weight
    tight = (row.clamp(min=0) * images_low + row.clamp(max=0) * images_high).sum() + constant
    return tight, by_intervals


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("share", "beta"), [(1.0, 1.0), (1.0, 0.3), (0.5, 0.0), (0.5, 0.4), (1.0, 0.0)])
def test_loss_and_gradients_equal_a_slow_transcription(share, beta, mode):
    (ours, theirs), (x, y) = (perceptron().train(mode) for _ in range(2)), images()
    defense = CROWNIBP(eps=EPS, kappa=0.2, beta=beta, stabilisation=0.0).at_eps_share(share)
    total = defense(ours, x, y).total
    flat, tight = x.flatten(1), 1 - (1 - beta) * share
    layers, losses, clean_losses = affine_layers(theirs, flat), [], []
    for image, label in zip(flat, y.tolist(), strict=True):
        low, high = (image - share * EPS).clamp(min=0), (image + share * EPS).clamp(max=1)
        row = []
        for other in range(3):
            crown, by_intervals = slow_margin(layers, low, high, label, other)
            row.append(-(tight * crown + (1 - tight) * by_intervals) if other != label else torch.zeros(()).double())
        losses.append(nn.functional.cross_entropy(torch.stack(row)[None], torch.tensor([label])))
        logits = image
        for number, (weight, bias) in enumerate(layers):
            logits = weight @ (logits if number == 0 else logits.clamp(min=0)) + bias
        clean_losses.append(nn.functional.cross_entropy(logits[None], torch.tensor([label])))
    weight = 0.8 * share
    expected = (1 - weight) * sum(clean_losses) / len(x) + weight * sum(losses) / len(x)
    assert_same_loss_and_gradients(ours, total, theirs, expected)


def test_its_bounds_are_tighter_than_intervals():
    model, (x, y) = perceptron().eval(), images()
    tight, loose = (kind(model, x, y).terms["certified"] for kind in (CROWNIBP(eps=EPS, beta=1.0), IBP(eps=EPS)))
    assert tight < loose - 1e-3


@pytest.mark.parametrize(
    ("defense", "activation"),
    [(IBP(eps=EPS), nn.Tanh()), (IBP(eps=EPS), nn.ReLU()), (CROWNIBP(eps=EPS, beta=0.5), nn.ReLU())],
    ids=["IBP-tanh", "IBP-relu", "CROWNIBP-relu"],
)
def test_gradcheck(defense, activation):
    """In train mode. Relaxing a curved activation takes the slopes of its lines as constants."""
    x, y = torch.rand(4, 1, 6, 6, generator=seeded(8), dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), activation, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        model = nn.Sequential(*layers).double()
    places = [name.split(".") for name, _ in model.named_parameters()]

    def loss(*values):
        for (layer, name), value in zip(places, values, strict=True):
            model[int(layer)]._parameters[name] = value
        return defense(model, x, y).total

    assert torch.autograd.gradcheck(loss, tuple(model.parameters()))
