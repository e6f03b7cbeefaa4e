"""Input normalisation as a layer, so that inputs are raw [0, 1] pixels."""

import torch
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalized(nn.Module):
    """A network with input normalisation as its first layer, so that eps is always in units of pixels.

    Args:
        network: from `(N, channels, H, W)` normalised images to `(N, classes)` logits.
        mean, std: one value for each input channel of `network`. A gray image has one channel up to here and is
            replicated to that number, so that attacks cannot add colour noise to it.

    >>> model = Normalized(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    >>> model(torch.rand(4, 1, 2, 2)).shape
    torch.Size([4, 2])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits
