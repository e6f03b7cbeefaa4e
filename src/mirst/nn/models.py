"""Models by name. Each normalises its input itself, so that inputs are raw [0, 1] pixels."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.nn.cnn_small import SmallCNN
from mirst.nn.factory import is_factory, load_factory
from mirst.nn.layers.drop_max import replace_first_max_pool
from mirst.nn.resnet import BasicBlock, Bottleneck, ResNet

MAX_CLASSES = 1000
"""Upper bound for models that are trained, and for cards of unknown origin."""
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


def build_model(name: str, in_channels: int, num_classes: int, drop_max: bool = False) -> nn.Module:
    """A classifier of raw [0, 1] images, randomly initialised from torch's global generator.

    Args:
        name: a key of `MODELS`, or `package.module:factory`; the factory is called with
            `in_channels` and `num_classes` as keywords and returns an `nn.Module`.
        in_channels: 1 (gray) or 3.
        num_classes: 2 to `MAX_CLASSES`.
        drop_max: replace the first max-pool by drop-max.

    Returns:
        A module from `(N, in_channels, H, W)` to `(N, num_classes)` logits. For the names in
        `MODELS` it is a `Normalized`, whose `.network` has torchvision's state-dict keys.

    Raises:
        MirstError: an unknown name, a factory that cannot be imported or returns no module, an
            invalid number of channels or classes, no max-pool to replace.
    """
    if in_channels not in (1, 3):
        raise MirstError(f"in_channels is {in_channels}; images have 1 (gray) or 3 channels")
    if not 2 <= num_classes <= MAX_CLASSES:
        raise MirstError(f"num_classes is {num_classes}; a classifier needs at least 2 and takes at most {MAX_CLASSES}")
    if name in MODELS:
        model = MODELS[name](in_channels=in_channels, num_classes=num_classes)
    elif is_factory(name):
        model = load_factory(name, in_channels=in_channels, num_classes=num_classes)
    else:
        raise MirstError(f"model.name: unknown model {name}; choose {', '.join(MODELS)} or package.module:factory")
    return replace_first_max_pool(model) if drop_max else model


def _resnet(
    block: type[BasicBlock] | type[Bottleneck], layers: list[int], in_channels: int, num_classes: int
) -> nn.Module:
    net = ResNet(block, layers, [64, 128, 256, 512], in_channels=3, num_classes=num_classes)
    return Normalized(net, IMAGENET_MEAN, IMAGENET_STD)


def _resnet_tiny(in_channels: int, num_classes: int) -> nn.Module:
    """A narrow ResNet-10 for a few CPU cores: one basic block per stage, widths 16 to 128."""
    net = ResNet(
        BasicBlock, [1, 1, 1, 1], [16, 32, 64, 128], in_channels=in_channels, num_classes=num_classes, stem_size=5
    )
    return Normalized(net, (0.25,) * in_channels, (0.25,) * in_channels)


def _cnn_small(in_channels: int, num_classes: int) -> nn.Module:
    """For certified training on a few CPU cores."""
    net = SmallCNN(in_channels=in_channels, num_classes=num_classes)
    return Normalized(net, (0.25,) * in_channels, (0.25,) * in_channels)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet50": partial(_resnet, Bottleneck, [3, 4, 6, 3]),
    "resnet18": partial(_resnet, BasicBlock, [2, 2, 2, 2]),
    "resnet_tiny": _resnet_tiny,
    "cnn_small": _cnn_small,
}
"""Networks by the name that a study uses, each called with `in_channels` and `num_classes`."""
