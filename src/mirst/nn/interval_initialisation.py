"""Initial weights for training on interval bounds."""

import math

import torch
from torch import nn


@torch.no_grad()
def initialise_for_intervals(model: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers but the last from N(0, 2 pi / fan_in^2), in place.

    With these weights the interval bounds keep their width from layer to layer, while the usual initialisations widen
    them by a factor that grows with the fan-in. The numbers are drawn from torch's global generator. The last layer,
    biases and batch norms keep their values, as in the authors' code.

    Source: Shi et al. 2021 (arXiv 2103.17268), Section 4.1. The authors halve the weights behind a residual addition;
    in the networks of `mirst.nn` a batch norm follows these, to which their scale makes no difference.

    >>> model = nn.Sequential(nn.Linear(1000, 50), nn.ReLU(), nn.Linear(50, 2))
    >>> initialise_for_intervals(model)
    >>> bool(model[0].weight.std() < 0.003)  # sqrt(2 pi) / 1000
    True
    """
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    for layer in [layer for layer in model.modules() if isinstance(layer, kinds)][:-1]:
        layer.weight.normal_(0.0, math.sqrt(2 * math.pi) / layer.weight[0].numel())
