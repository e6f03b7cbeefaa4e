"""Models by name. Each normalises its input itself, so that inputs are raw [0, 1] pixels."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from mirst.errors import MirstError, meant
from mirst.nn.cnn_small import SmallCNN
from mirst.nn.factory import LIBRARIES, is_factory, library_of, load_factory
from mirst.nn.layers.drop_max import replace_first_max_pool
from mirst.nn.libraries import NO_OPTIONS, build_library_model
from mirst.nn.normalized import IMAGENET_MEAN, IMAGENET_STD, Normalized
from mirst.nn.resnet import BasicBlock, Bottleneck, ResNet

MAX_CLASSES = 1000
"""Upper bound for models that are trained, and for cards of unknown origin."""


def build_model(
    name: str,
    in_channels: int,
    num_classes: int,
    drop_max: bool = False,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> nn.Module:
    """A classifier of raw [0, 1] images, randomly initialised from torch's global generator.

    Args:
        name: a key of `MODELS`; `LIBRARY:NETWORK`, such as `monai:DenseNet121`; or `package.module:factory`, which is
            called with `in_channels` and `num_classes` as keywords and returns an `nn.Module`.
        in_channels: 1 (gray) or 3.
        num_classes: 2 to `MAX_CLASSES`.
        drop_max: replace the first max-pool by drop-max.
        options: further keyword arguments of the network or factory; those in `MODELS` take none.

    Returns:
        A module from `(N, in_channels, H, W)` to `(N, num_classes)` logits. It is a `Normalized` except for a factory.
        For the names in `MODELS` its `.network` has torchvision's state-dict keys.

    Raises:
        MirstError: an unknown name or option, a library that is not installed, a factory that cannot be imported or
            returns no module, an invalid number of channels or classes, no max-pool to replace.

    >>> import torch
    >>> build_model("resnet_tiny", in_channels=1, num_classes=3)(torch.rand(2, 1, 32, 32)).shape
    torch.Size([2, 3])
    """
    if in_channels not in (1, 3):
        raise MirstError(f"in_channels is {in_channels}; images have 1 (gray) or 3 channels")
    if not 2 <= num_classes <= MAX_CLASSES:
        raise MirstError(f"num_classes is {num_classes}; a classifier needs at least 2 and takes at most {MAX_CLASSES}")
    if name in MODELS:
        if options:
            raise MirstError(f"model.options: {name} takes no options, but {', '.join(options)} is given; leave it out")
        model = MODELS[name](in_channels=in_channels, num_classes=num_classes)
    elif library_of(name):
        model = build_library_model(name, num_classes, options)
    elif is_factory(name):
        model = load_factory(name, in_channels=in_channels, num_classes=num_classes, **_own(options))
    else:
        raise MirstError(
            f"model.name: unknown model {name}{meant(name, list(MODELS))}; choose {', '.join(MODELS)}, "
            "package.module:factory, or NETWORK of a library as "
            f"{', '.join(f'{library}:NETWORK' for library in LIBRARIES)}"
        )
    return replace_first_max_pool(model) if drop_max else model


def _own(options: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("in_channels", "num_classes"):
        if key in options:
            raise MirstError(f"model.options: {key} is set by mirst; leave it out")
    return options


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
