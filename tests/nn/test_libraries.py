"""Networks of other libraries by name."""

import importlib.util
import re
import sys
from dataclasses import replace

import pytest
import torch
from monai.networks.nets import DenseNet121

from mirst.errors import MirstError
from mirst.nn import build_model, is_factory, load_backbone, load_factory, load_model, read_card, save_model
from tests.helpers import CARD

SMALL = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1]}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def small_densenet(channels=1):
    torch.manual_seed(0)
    return build_model("monai:DenseNet121", channels, 2, options=SMALL).eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_takes_pixels_and_gray_is_replicated(channels):
    x = torch.rand(2, channels, 32, 32)
    torch.manual_seed(0)
    own = DenseNet121(spatial_dims=2, in_channels=3, out_channels=2, **SMALL).eval()
    with torch.no_grad():
        expected = own((x.expand(-1, 3, -1, -1) - MEAN) / STD)
        torch.testing.assert_close(small_densenet(channels)(x), expected)


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("monai:resnet18", {}, "a function whose class takes the options"),
        ("monai:EfficientNetBN", {"model_name": "efficientnet-b0"}, "num_classes"),
        ("monai:SEResNet50", {"layers": [1, 1, 1, 1]}, "options of a base class"),
    ],
)
def test_networks_of_several_signatures(name, options, shape):
    with torch.no_grad():
        assert build_model(name, 1, 5, options=options).eval()(torch.rand(1, 1, 64, 64)).shape == (1, 5), shape


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("monai:DenseNet12", {}, "model.name: monai has no network DenseNet12; did you mean DenseNet121"),
        ("monai:Xyzzy", {}, r"monai has no network Xyzzy; it has .* and \d+ more"),
        ("monai:DenseNet121", {"init_feature": 8}, "takes no init_feature; did you mean init_features?"),
        ("monai:DenseNet121", {"pretrained": True}, "pretrained loads weights; .* set model.weights to pretrained"),
        ("monai:DenseNet121", {"in_channels": 1}, "in_channels of monai:DenseNet121 is set by mirst; leave it out"),
        ("monai:DenseNet121", {"init_features": "x"}, "monai:DenseNet121 raised TypeError: .*model.options"),
        ("monai:ViT", {}, "raised TypeError: .*'img_size'.*set what its constructor takes with model.options"),
        pytest.param(
            "monai:ViT",
            {"img_size": 32, "patch_size": 8},
            r"needs another package; install it \(from einops[^\n]*\)$",
            marks=pytest.mark.skipif(importlib.util.find_spec("einops") is not None, reason="einops is installed"),
        ),
        ("monai:AutoEncoder", {}, "raised TypeError: .*'channels'"),
        ("monai:Generator", {}, "monai:Generator takes no number of classes; name a network that classifies"),
        ("resnet_tiny", {"width": 3}, "model.options: resnet_tiny takes no options, but width is given"),
        ("tests.helpers:small_cnn", {"num_classes": 3}, "model.options: num_classes is set by mirst"),
        ("monai:", {}, "monai: is not of the form|unknown model monai:"),
        ("resnet_tinie", {}, "or NETWORK of a library as monai:NETWORK, timm:NETWORK, torchvision:NETWORK"),
    ],
)
def test_wrong_names_and_options_get_one_sentence(name, options, words):
    with pytest.raises(MirstError, match=words):
        build_model(name, 1, 2, options=options)


@pytest.mark.parametrize(("name", "module"), [("timm", "timm"), ("torchvision", "torchvision.models")])
def test_a_library_that_is_not_installed_gets_the_command(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MirstError, match=re.escape(f"{name}:resnet18 needs {name}; pip install 'mirst[{name}]'")):
        build_model(f"{name}:resnet18", 1, 2)


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:vit_tiny_patch16_224", "torchvision:efficientnet_v2_l"])
def test_timm_and_torchvision(name):
    """The statistics are those of the published weights, which for two of the three are not ImageNet's."""
    library, network = name.split(":")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install 'mirst[{library}]'")
    options = {"img_size": 64} if "vit" in network else {}
    model = build_model(name, 1, 2, options=options).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, 64, 64)).shape == (1, 2)
    expected = MEAN if network == "resnet18" else torch.full((3, 1, 1), 0.5)
    torch.testing.assert_close(model.mean, expected)
    with pytest.raises(MirstError, match=f"{library} has no network resnet81; did you mean .*resnet18"):
        build_model(f"{library}:resnet81", 1, 2)
    with pytest.raises(MirstError, match=r"loads weights; leave it out"):
        build_model(name, 1, 2, options={"checkpoint_path" if library == "timm" else "weights": "x.pth"})


def test_a_library_name_is_no_trained_model_and_no_path():
    assert is_factory("timm:resnet18.a1_in1k")
    with pytest.raises(MirstError, match="monai:DenseNet121 is a network without trained weights; train it"):
        load_factory("monai:DenseNet121")


def test_a_checkpoint_carries_the_options_and_is_opened_only_if_trusted(tmp_path, monkeypatch):
    path, model = tmp_path / "model.safetensors", small_densenet()
    card = replace(CARD, model="monai:DenseNet121", drop_max=False, options=SMALL)
    save_model(path, model, card)
    assert read_card(path) == card
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)  # an import would fail in another way
    for trusted in (None, "monai:DenseNet169", "monai"):
        with pytest.raises(MirstError, match=r"DenseNet121 \(init_features=8, .* add --trust monai:DenseNet121"):
            load_model(path, trusted)
    monkeypatch.undo()
    loaded, _ = load_model(path, "monai:DenseNet121")
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pretrained": True}, "pretrained loads weights"),
        ({"init_features": 4}, "tensors differ"),
        ({"block_config": {"x": 1}}, "is not a checkpoint written by mirst"),
        ({"name": "x" * 201}, "is not a checkpoint written by mirst"),
        ({f"o{number}": 1 for number in range(51)}, "is not a checkpoint written by mirst"),
        ({"act": "\x1b[2J"}, "its card contains control characters"),
    ],
)
def test_options_of_a_strangers_checkpoint_are_bounded_and_load_no_weights(tmp_path, options, words):
    path = tmp_path / "model.safetensors"
    save_model(path, small_densenet(), replace(CARD, model="monai:DenseNet121", drop_max=False, options=options))
    with pytest.raises(MirstError, match=words):
        load_model(path, "monai:DenseNet121")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Downloads are refused by this machine; torch's cache is empty."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "mirst"))
    return tmp_path / "hub" / "checkpoints"


def test_weights_that_cannot_be_downloaded_get_one_sentence(no_network):
    with pytest.raises(MirstError, match=r"pretrained weights of monai:DenseNet121 could not be loaded \(URLError"):
        load_backbone(small_densenet(), "pretrained", "monai:DenseNet121", SMALL)
    with pytest.raises(
        MirstError, match="pretrained exists for networks of monai, timm, torchvision, not for resnet18"
    ):
        load_backbone(build_model("resnet_tiny", 1, 2), "pretrained", "resnet18")
    with pytest.raises(MirstError, match="monai:HighResNet has no pretrained weights"):
        load_backbone(small_densenet(), "pretrained", "monai:HighResNet")
    with pytest.raises(
        MirstError, match=r"monai:resnet18 could not be loaded \(NotImpl.*3D models\); set model.weights"
    ):
        load_backbone(small_densenet(), "pretrained", "monai:resnet18")


def published(place):
    """A file as torchvision publishes it, in torch's cache."""
    torch.manual_seed(5)
    state = DenseNet121(spatial_dims=2, in_channels=3, out_channels=1000, **SMALL).state_dict()
    place.mkdir(parents=True)
    names = {key: re.sub(r"layers\.(norm|conv)(\d)", r"\1.\2", key) for key in state}
    torch.save({names[key]: value for key, value in state.items()}, place / "densenet121-a639ec97.pth")
    return state


def test_pretrained_weights_are_those_of_the_file_except_for_the_last_layer(no_network):
    expected = published(no_network)
    model = small_densenet()
    head = model.network.class_layers.out.weight.clone()
    loaded = load_backbone(model, "pretrained", "monai:DenseNet121", SMALL)
    body = {key: value for key, value in model.network.state_dict().items() if not key.startswith("class_layers.out")}
    assert loaded.matched == loaded.of == len(body) > 50
    assert all(torch.equal(value, expected[key]) for key, value in body.items())
    assert torch.equal(model.network.class_layers.out.weight, head)
    assert "last layer is initialised randomly" in str(loaded)
    with pytest.raises(MirstError, match=r"pretrained weights of monai:DenseNet121 lack \d+ of \d+ weights"):
        load_backbone(small_densenet(), "pretrained", "monai:DenseNet121", SMALL | {"growth_rate": 6})
