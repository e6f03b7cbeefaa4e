"""A plain convolutional network whose interval bounds stay tight: no residual additions, few layers."""

from torch import Tensor, nn

GRID = 4
"""Side of the grid of means on which the head works, whatever the size of the images."""


class SmallCNN(nn.Module):
    """Three convolutions with batch norm and ReLU, a max-pool after the first, and two linear layers.

    It is a small relative of the CNN7 of certified training (Shi et al. 2021, arXiv 2103.17268): bounds widen with
    every layer, and a few hundred images need few weights. The max-pool, 3x3 with stride 2, is that of the residual
    networks, so that drop-max can replace it. The head sees where in the image a feature is: it works on a grid of 4x4
    means.

    Args:
        in_channels: channels of the input, `(N, in_channels, H, W)`.
        num_classes: length of the logits, `(N, num_classes)`.
        width: channels of the first convolution; the second has twice and the third four times as many.

    >>> import torch
    >>> SmallCNN(in_channels=1, num_classes=2)(torch.rand(3, 1, 32, 32)).shape
    torch.Size([3, 2])
    """

    def __init__(self, *, in_channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = _layer(in_channels, width, kernel=5, stride=2)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.body = nn.Sequential(
            _layer(width, 2 * width, kernel=3, stride=1), _layer(2 * width, 4 * width, kernel=3, stride=2)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(GRID)
        self.hidden = nn.Sequential(
            nn.Linear(4 * width * GRID**2, 4 * width, bias=False), nn.BatchNorm1d(4 * width), nn.ReLU()
        )
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.maxpool(self.stem(x)))
        logits: Tensor = self.fc(self.hidden(self.avgpool(x).flatten(1)))
        return logits


def _layer(in_planes: int, planes: int, *, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_planes, planes, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(planes), nn.ReLU()
    )
