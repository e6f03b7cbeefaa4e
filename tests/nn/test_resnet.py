"""MONAI's residual networks are the oracle: the same random draws give the same parameters and the same logits."""

import pytest
import torch

from mirst.nn import build_model
from mirst.nn.resnet import BasicBlock, Bottleneck, ResNet

PLANES = [4, 8, 8, 16]
VARIANTS = [
    (block, layers, stem_size, in_channels)
    for block in ("basic", "bottleneck")
    for layers in ([1, 1, 1, 1], [2, 1, 3, 1])
    for stem_size, in_channels in ((7, 3), (5, 1))
]


def peer(block, layers, planes, in_channels, num_classes, stem_size):
    from monai.networks.nets.resnet import ResNet as MonaiResNet

    return MonaiResNet(
        block=block, layers=layers, block_inplanes=planes, spatial_dims=2, n_input_channels=in_channels,
        conv1_t_size=stem_size, conv1_t_stride=2, bias_downsample=False, num_classes=num_classes,
    )  # fmt: skip


def same(ours, theirs, x):
    expected, actual = theirs.state_dict(), ours.state_dict()
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    for mode in (True, False):
        logits = ours.train(mode)(x)
        assert torch.equal(logits, theirs.train(mode)(x))
    ours.zero_grad()
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert pairs
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)


@pytest.mark.parametrize(("block", "layers", "stem_size", "in_channels"), VARIANTS)
def test_equals_monais_network(block, layers, stem_size, in_channels):
    torch.manual_seed(3)
    theirs = peer(block, layers, PLANES, in_channels, 3, stem_size)
    draw_after = torch.rand(1)
    torch.manual_seed(3)
    kind = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
    ours = ResNet(kind, layers, PLANES, in_channels=in_channels, num_classes=3, stem_size=stem_size)
    assert torch.equal(torch.rand(1), draw_after)
    same(ours, theirs, torch.rand(2, in_channels, 37, 32))


@pytest.mark.parametrize(
    ("name", "block", "layers", "planes", "channels", "stem_size"),
    [
        ("resnet_tiny", "basic", [1, 1, 1, 1], [16, 32, 64, 128], 1, 5),
        ("resnet18", "basic", [2, 2, 2, 2], [64, 128, 256, 512], 3, 7),
        ("resnet50", "bottleneck", [3, 4, 6, 3], [64, 128, 256, 512], 3, 7),
    ],
)
def test_models_by_name_are_monais(name, block, layers, planes, channels, stem_size):
    torch.manual_seed(0)
    theirs = peer(block, layers, planes, channels, 2, stem_size)
    torch.manual_seed(0)
    same(build_model(name, channels, 2).network, theirs, torch.rand(2, channels, 64, 64))
