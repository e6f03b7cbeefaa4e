"""Exported models answer as the checkpoint does, in the programs that they are for."""

import json

import pytest
import torch
from safetensors import safe_open

from mirst.errors import MirstError
from mirst.export import export_model
from mirst.nn import load_model


@pytest.fixture(scope="module")
def checkpoint(finished):
    """With a drop-max layer."""
    return finished / "trials" / "mirst+dm-fold0-seed0" / "model.safetensors"


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_model(checkpoint)[0]


def images(count):
    return torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(count))


def test_onnx_runtime_gives_the_same_scores_for_any_batch(checkpoint, model, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    path = export_model(checkpoint, "onnx", tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(path))
    for count in (1, 2, 7):
        (logits,) = session.run(["logits"], {"image": images(count).numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), model(images(count)), atol=1e-4, rtol=0)
    card = json.loads(session.get_modelmeta().custom_metadata_map["mirst"])
    assert (card["classes"], card["positive"]) == (["benign", "malignant"], "malignant")


def test_torch_export_gives_the_same_scores_for_any_batch(checkpoint, model, tmp_path):
    path = export_model(checkpoint, "torch-export", tmp_path / "model.pt2")
    told = {"mirst": ""}
    program = torch.export.load(path, extra_files=told).module()
    for count in (1, 2, 7):
        with torch.no_grad():
            torch.testing.assert_close(program(images(count)), model(images(count)), atol=1e-5, rtol=0)
    assert json.loads(told["mirst"])["size"] == 32
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt2"]


def test_safetensors_has_the_networks_own_names(checkpoint, model, tmp_path):
    path = export_model(checkpoint, "safetensors", tmp_path / "weights.safetensors")
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = json.loads(file.metadata()["mirst"])
    expected = model.network.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert (told["mean"], told["std"]) == ([0.25], [0.25])


def test_bad_input_gets_a_sentence_and_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(MirstError, match="--to is pickle; choose onnx, torch-export, safetensors, monai-bundle"):
        export_model(checkpoint, "pickle", tmp_path / "model.pkl")
    with pytest.raises(MirstError, match="is not a checkpoint"):
        export_model(tmp_path / "none", "safetensors", tmp_path / "model")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MirstError, match=r"pip install 'mirst\[onnx\]'"):
        export_model(checkpoint, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
