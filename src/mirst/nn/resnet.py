"""Residual networks for images (He et al. 2016, arXiv 1512.03385) with the parameter names of torchvision's."""

from collections.abc import Sequence

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5, left).

    Args:
        in_planes: channels of the input, `(N, in_planes, H, W)`.
        planes: channels of the output.
        stride: of the first convolution.

    >>> import torch
    >>> BasicBlock(4, 8, stride=2)(torch.rand(1, 4, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    expansion = 1

    def __init__(self, in_planes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(in_planes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        activated: Tensor = self.act(out)
        return activated


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution and a shortcut (He et al. 2016, figure 5, right). The 3x3 has the stride.

    Args:
        in_planes: channels of the input, `(N, in_planes, H, W)`.
        planes: channels of the 3x3 convolution; the output has four times as many.
        stride: of the 3x3 convolution.

    >>> import torch
    >>> Bottleneck(4, 2, stride=2)(torch.rand(1, 4, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    expansion = 4

    def __init__(self, in_planes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        out_planes = planes * self.expansion
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_planes)
        self.act = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_planes, out_planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        activated: Tensor = self.act(out)
        return activated


def _shortcut(in_planes: int, out_planes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_planes == out_planes:
        return None
    return nn.Sequential(nn.Conv2d(in_planes, out_planes, 1, stride, bias=False), nn.BatchNorm2d(out_planes))


class ResNet(nn.Module):
    """A residual network; convolutions start from He's normal initialisation (fan out), biases from 0.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        layers: number of blocks of each of the four stages.
        planes: width of each of the four stages.
        in_channels: channels of the input, `(N, in_channels, H, W)`.
        num_classes: length of the logits, `(N, num_classes)`.
        stem_size: side of the kernel of the first convolution, which has stride 2.

    >>> import torch
    >>> ResNet(BasicBlock, [1, 1, 1, 1], [4, 4, 8, 8], in_channels=1, num_classes=2)(torch.rand(3, 1, 32, 32)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        planes: Sequence[int],
        *,
        in_channels: int,
        num_classes: int,
        stem_size: int = 7,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes[0], stem_size, 2, padding=stem_size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.act = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        wide = [width * block.expansion for width in planes]
        self.layer1 = _stage(block, layers[0], planes[0], planes[0], stride=1)
        self.layer2 = _stage(block, layers[1], wide[0], planes[1], stride=2)
        self.layer3 = _stage(block, layers[2], wide[1], planes[2], stride=2)
        self.layer4 = _stage(block, layers[3], wide[2], planes[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(wide[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(
    block: type[BasicBlock] | type[Bottleneck], count: int, in_planes: int, planes: int, stride: int
) -> nn.Sequential:
    rest = [block(planes * block.expansion, planes) for _ in range(1, count)]
    return nn.Sequential(block(in_planes, planes, stride), *rest)
