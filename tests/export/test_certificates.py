"""The certificates of an exported model are those of its checkpoint."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from mirst.bounds import METHODS, margin_bounds, score_bounds
from mirst.box_code import box_code
from mirst.errors import MirstError
from mirst.export import export_model
from mirst.nn import (
    BoxFusion,
    CertifiedMetrics,
    DropMax2d,
    build_model,
    load_model,
    read_card,
    save_model,
)
from mirst.nn.box_fusion import BoxRegression
from tests.helpers import CARD

PLAIN = "tests.export.test_certificates:plain_cnn"


def plain_cnn(in_channels, num_classes):
    """Shallow enough that intervals certify some images."""
    conv = nn.Conv2d(in_channels, 4, 5, stride=2)
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 7 * 7, num_classes))


def saved(folder, name, drop_max=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(name, 1, 2, drop_max=drop_max)
    save_model(folder / "model.safetensors", model, replace(CARD, model=name, drop_max=drop_max))
    return folder / "model.safetensors"


@pytest.fixture
def checkpoint(tmp_path):
    return saved(tmp_path, "resnet_tiny")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "drop_max", "some_certified"),
    [("resnet_tiny", False, False), (PLAIN, False, True), ("cnn_small", False, False), ("cnn_small", True, False)],
)
def test_the_onnx_model_bounded_again_has_the_same_certificates(tmp_path, name, drop_max, some_certified, method):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests.export.onnx_network import OnnxNetwork

    path, pool = saved(tmp_path, name, drop_max), DropMax2d(3, 2, 1) if drop_max else None
    again = OnnxNetwork(export_model(path, "onnx", tmp_path / "model.onnx", name), pool).eval()
    model, _ = load_model(path, name)
    x = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x), atol=1e-4, rtol=0)
        y = model(x).argmax(1)
    proven = []
    for eps in (0.1 / 255, 1 / 255, 5 / 255):
        ours, theirs = (margin_bounds(one, x, y, eps, method=method, positive=1) for one in (model, again))
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-2)
        assert ((ours > 0) == (theirs > 0)).all()
        scores = [score_bounds(one, x, y == 1, eps, method=method, positive=1) for one in (model, again)]
        torch.testing.assert_close(*scores, atol=1e-5, rtol=1e-2)
        proven += (ours > 0).tolist()
    assert any(proven) == some_certified
    assert not all(proven)


@pytest.mark.parametrize("method", METHODS)
def test_the_onnx_model_with_a_box_bounded_again_has_the_same_certificates(tmp_path, method):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from tests.export.onnx_fusion import onnx_fusion

    torch.manual_seed(0)
    model = BoxFusion(build_model("cnn_small", 1, 2), 1, 0.7)
    model.set_box(BoxRegression((0.1, -2.0), (0.5, 1.5), (1.0, -0.5), 0.3))
    model.pixel_var.fill_(0.04)
    card = replace(CARD, model="cnn_small", drop_max=False, box="fused", bound=0.7, view="lesion", margin=0.3)
    save_model(tmp_path / "model.safetensors", model.eval(), card)
    path = export_model(tmp_path / "model.safetensors", "onnx", tmp_path / "model.onnx", "cnn_small")
    again = onnx_fusion(path)
    images, boxes = torch.rand(8, 1, 32, 32), torch.tensor([[0.4 * one, -2.0 - one] for one in range(-4, 4)])
    x = torch.cat([images, box_code(boxes, 32)], 1)
    session = runtime.InferenceSession(path)
    (deployed,) = session.run(None, {"image": images.numpy(), "box": boxes.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(again(x), torch.tensor(deployed), atol=1e-5, rtol=0)
        y = model(x).argmax(1)
    proven = []
    for eps in (0.1 / 255, 1 / 255, 5 / 255):
        ours, theirs = (margin_bounds(one, x, y, eps, method=method, positive=1) for one in (model, again))
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-3)
        assert ((ours > 0) == (theirs > 0)).all()
        proven += (ours > 0).tolist()
    assert any(proven)
    assert not all(proven)


def figures():
    metrics = {"f1": 0.64, "accuracy": 0.7}
    return (CertifiedMetrics(eps=5 / 255, method="interval", images=130, metrics=metrics),)


@pytest.mark.parametrize("to", ["onnx", "torch-export", "safetensors", "monai-bundle"])
def test_every_format_carries_the_certified_figures(checkpoint, tmp_path, to):
    pytest.importorskip("onnx")
    model, card = load_model(checkpoint)
    save_model(checkpoint, model, replace(card, certified=figures()))
    path = export_model(checkpoint, to, tmp_path / "exported")
    if to == "monai-bundle":
        found = json.loads((path / "configs" / "metadata.json").read_text())
        assert "| 5/255 | interval | 130 | 0.640 | 0.700 |" in (path / "docs" / "README.md").read_text()
    elif to == "onnx":
        import onnx

        found = json.loads({one.key: one.value for one in onnx.load(path).metadata_props}["mirst"])
    elif to == "torch-export":
        told = {"mirst": ""}
        torch.export.load(path, extra_files=told)
        found = json.loads(told["mirst"])
    else:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            found = json.loads(file.metadata()["mirst"])
    assert found["certified"] == [
        {"eps": 5 / 255, "method": "interval", "images": 130, "metrics": {"f1": 0.64, "accuracy": 0.7}}
    ]


def test_a_card_without_certificates_is_written_as_before():
    assert "certified" not in CARD.entries()


def test_the_figures_of_a_checkpoint_are_read_and_checked(checkpoint):
    model, card = load_model(checkpoint)
    path = checkpoint
    save_model(path, model, replace(card, certified=figures()))
    assert read_card(path).certified == figures()
    save_model(path, model, replace(card, certified=(replace(figures()[0], metrics={"f1": 1.5}),)))
    with pytest.raises(MirstError, match=r"certified\.0\.metrics"):
        read_card(path)
