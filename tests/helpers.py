"""Real, small models, and a way to see whether one was touched."""

import torch
from torch import nn


def small_cnn(in_channels: int = 1, classes: int = 2, seed: int = 0) -> nn.Module:
    """A convolutional net with batch norm, dropout and a max-pool, its statistics warmed up."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(in_channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(32, classes),
        )
        model(torch.rand(16, in_channels, 16, 16))
    return model


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything of a model that an attack might leave changed, comparable with `==`."""
    return {
        "state": {key: value.tolist() for key, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
    }
