import pytest
import torch
from torch import nn

from mirst.errors import MirstError
from mirst.nn import MODELS, DropMax2d, build_model


def wide(in_channels, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


def not_a_model(in_channels, num_classes):
    return 3


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_models_take_raw_images(name, in_channels):
    model = build_model(name, in_channels, 4).eval()
    with torch.no_grad():
        assert model(torch.rand(2, in_channels, 64, 64)).shape == (2, 4)


@pytest.mark.parametrize(("name", "parameters", "keys"), [("resnet18", 11_689_512, 122), ("resnet50", 25_557_032, 320)])
def test_resnets_have_torchvisions_layout(name, parameters, keys):
    """Counts as published for torchvision's models with 1000 classes."""
    network = build_model(name, 3, 1000).network
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(state) == keys
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer2.0.downsample.0.weight"].shape[2:] == (1, 1)
    assert "layer2.0.downsample.0.bias" not in state
    assert "layer4.1.bn2.running_var" in state
    assert state["fc.weight"].shape[0] == 1000


def test_gray_is_replicated_inside_the_model():
    torch.manual_seed(0)
    gray = build_model("resnet18", 1, 2).eval()
    x = torch.rand(2, 1, 64, 64)
    by_hand = (x.repeat(1, 3, 1, 1) - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(gray(x), gray.network(by_hand))


@pytest.mark.parametrize("name", MODELS)
def test_drop_max_takes_the_first_pool(name):
    model = build_model(name, 1, 2, drop_max=True)
    assert isinstance(model.network.maxpool, DropMax2d)
    assert not any(isinstance(m, nn.MaxPool2d) for m in model.modules())


def test_a_factory_of_the_users():
    model = build_model(f"{__name__}:wide", 1, 3)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "channels", "classes", "words"),
    [
        ("resnet51", 1, 2, r"unknown model resnet51 \(did you mean resnet50\?\)"),
        ("no_such_package:factory", 1, 2, "no module no_such_package"),
        (f"{__name__}:missing", 1, 2, "has no missing"),
        (f"{__name__}:not_a_model", 1, 2, "not an nn.Module"),
        ("resnet_tiny", 2, 2, "in_channels is 2"),
        ("resnet_tiny", 1, 1, "num_classes is 1"),
    ],
)
def test_bad_requests_get_a_sentence(name, channels, classes, words):
    with pytest.raises(MirstError, match=words):
        build_model(name, channels, classes)
