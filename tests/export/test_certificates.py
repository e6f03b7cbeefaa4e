"""The certificates of an exported model are those of its checkpoint."""

import json

import pytest
import torch

from mirst.bounds import METHODS, margin_bounds, score_bounds
from mirst.export import export_model
from mirst.nn import CertifiedMetrics, load_model, read_card, save_model
from tests.helpers import CARD


@pytest.fixture(scope="module")
def checkpoint(finished):
    """With a max-pool layer."""
    return finished / "trials" / "ce-fold0-seed0" / "model.safetensors"


@pytest.mark.parametrize("method", METHODS)
def test_the_onnx_model_bounded_again_has_the_same_certificates(checkpoint, tmp_path, method):
    pytest.importorskip("onnx")
    from tests.export.onnx_network import OnnxNetwork

    again = OnnxNetwork(export_model(checkpoint, "onnx", tmp_path / "model.onnx")).eval()
    model, card = load_model(checkpoint)
    x = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x), atol=1e-4, rtol=0)
        y = model(x).argmax(1)
    settings = {"method": method, "threshold": card.threshold, "positive": card.positive_index}
    for eps in (0.0, 0.1 / 255, 1 / 255):
        ours, theirs = (margin_bounds(one, x, y, eps, **settings) for one in (model, again))
        torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=1e-3)
        assert ((ours > 0) == (theirs > 0)).all()
        scores = [score_bounds(one, x, y == 1, eps, method=method, positive=1) for one in (model, again)]
        torch.testing.assert_close(*scores, atol=1e-3, rtol=1e-3)


def figures():
    metrics = {"f1": 0.64, "accuracy": 0.7}
    return (CertifiedMetrics(eps=5 / 255, method="interval", images=130, metrics=metrics),)


@pytest.mark.parametrize("to", ["onnx", "torch-export", "safetensors", "monai-bundle"])
def test_every_format_carries_the_certified_figures(checkpoint, tmp_path, to):
    pytest.importorskip("onnx")
    from dataclasses import replace

    model, card = load_model(checkpoint)
    save_model(tmp_path / "model.safetensors", model, replace(card, certified=figures()))
    path = export_model(tmp_path / "model.safetensors", to, tmp_path / "exported")
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


def test_the_figures_of_a_checkpoint_are_read_and_checked(checkpoint, tmp_path):
    from dataclasses import replace

    from mirst.errors import MirstError

    model, card = load_model(checkpoint)
    path = tmp_path / "model.safetensors"
    save_model(path, model, replace(card, certified=figures()))
    assert read_card(path).certified == figures()
    save_model(path, model, replace(card, certified=(replace(figures()[0], metrics={"f1": 1.5}),)))
    with pytest.raises(MirstError, match=r"certified.0.metrics"):
        read_card(path)
