"""Slow transcriptions that share no code with the library: one image at a time, formulas written out."""

import torch
from torch import nn


def log_softmax(logits):
    return logits - torch.log(torch.exp(logits).sum())


def cross_entropy(model, image, label):
    return -log_softmax(model(image[None])[0])[label]


def input_gradient(model, image, label, *, keep=False):
    """Of the cross-entropy; with its own graph if `keep`."""
    image = image.detach().requires_grad_(True)
    loss = cross_entropy(model, image, label)
    return torch.autograd.grad(loss, image, create_graph=keep)[0]


def ascend(objective, image, start, eps, step, steps):
    """Signed steps, clipped pixel by pixel; every iterate."""
    sequence, current = [], start.clone()
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        gradient = torch.autograd.grad(objective(current), current)[0]
        moved = current.detach() + step * torch.sign(gradient)
        moved = torch.max(torch.min(moved, image + eps), image - eps)
        current = torch.max(torch.min(moved, torch.ones_like(moved)), torch.zeros_like(moved))
        sequence.append(current.clone())
    return sequence


def assert_same_loss_and_gradients(ours, total, theirs, expected):
    torch.testing.assert_close(total, expected)
    total.backward()
    expected.backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


class Smooth(nn.Module):
    """A small model without kinks, its parameters given from outside: for `gradcheck`."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.net = nn.Sequential(
                nn.Conv2d(1, 2, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
            ).double()

    def forward(self, x):
        return self.net(x)


def of_parameters(model, function):
    """`function()` as a function of the model's parameters, for `gradcheck`."""
    names = [name for name, _ in model.named_parameters()]

    def call(*values):
        class Given(nn.Module):
            def forward(self, x):
                return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x,))

        return function(Given())

    return call, tuple(p.detach().clone().requires_grad_(True) for p in model.parameters())
