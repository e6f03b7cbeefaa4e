"""Exported models answer as the checkpoint does, in the programs that they are for."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from mirst.errors import MirstError
from mirst.export import export_model
from mirst.nn import BoxFusion, Ensemble, box_code, build_model, load_model, save_model
from tests.helpers import CARD, FUSED


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


def fusion():
    model = BoxFusion(build_model("resnet_tiny", 1, 2), positive=1).eval()
    model.set_box(FUSED)
    model.pixel_var.fill_(0.01)
    return model


@pytest.fixture(scope="module")
def fused_checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("fused") / "model.safetensors"
    save_model(path, fusion(), replace(CARD, drop_max=False, box="fused", bound=1.5))
    return path


@pytest.fixture(scope="module")
def ensemble_checkpoint(tmp_path_factory):
    """Of two members that take a box."""
    path = tmp_path_factory.mktemp("ensemble") / "model.safetensors"
    model = Ensemble([fusion(), fusion()], (0.4, -0.1))
    save_model(path, model, replace(CARD, drop_max=False, box="fused", bound=1.5, members=2))
    return path


@pytest.fixture(params=["fused_checkpoint", "ensemble_checkpoint"])
def takes_a_box(request):
    return request.getfixturevalue(request.param)


def boxes(count):
    """Some unknown, some out of range."""
    drawn = torch.randn(count, 2, generator=torch.Generator().manual_seed(count)) * torch.tensor([1.0, 4.0]) - 3
    drawn[::3] = torch.nan
    return drawn


def coded(count):
    return torch.cat([images(count), box_code(boxes(count), 32)], 1)


def test_onnx_runtime_takes_the_box_of_a_fused_model_as_a_second_input(takes_a_box, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(export_model(takes_a_box, "onnx", tmp_path / "model.onnx")))
    assert [(one.name, one.shape[1:]) for one in session.get_inputs()] == [("image", [1, 32, 32]), ("box", [2])]
    model = load_model(takes_a_box)[0]
    for count in (1, 2, 7):
        (logits,) = session.run(["logits"], {"image": images(count).numpy(), "box": boxes(count).numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), model(coded(count)), atol=1e-4, rtol=0)
    card = json.loads(session.get_modelmeta().custom_metadata_map["mirst"])
    assert (card["box"], card["bound"]) == ("fused", 1.5)
    assert card["inputs"]["box"].startswith("(N, 2): natural logarithms of box height / box width")


def test_torch_export_takes_the_box_of_a_fused_model_as_a_second_input(takes_a_box, tmp_path):
    told = {"mirst": ""}
    path = export_model(takes_a_box, "torch-export", tmp_path / "model.pt2")
    program, model = torch.export.load(path, extra_files=told).module(), load_model(takes_a_box)[0]
    for count in (1, 2, 7):
        with torch.no_grad():
            torch.testing.assert_close(program(images(count), boxes(count)), model(coded(count)), atol=1e-5, rtol=0)
    assert list(json.loads(told["mirst"])["inputs"]) == ["image", "box"]


def test_safetensors_of_a_fused_model_has_the_networks_own_names(fused_checkpoint, tmp_path):
    path, model = (
        export_model(fused_checkpoint, "safetensors", tmp_path / "w.safetensors"),
        load_model(fused_checkpoint)[0],
    )
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == model.pixels.network.state_dict().keys()
        told = json.loads(file.metadata()["mirst"])
    assert told["mean"] == [0.25]
    assert told["box_weight"] == pytest.approx(FUSED.weight)
    assert told["pixel_var"] == pytest.approx(0.01)


def test_safetensors_of_an_ensemble_has_the_names_of_each_members_network(ensemble_checkpoint, tmp_path):
    path, model = (
        export_model(ensemble_checkpoint, "safetensors", tmp_path / "w.safetensors"),
        load_model(ensemble_checkpoint)[0],
    )
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = json.loads(file.metadata()["mirst"])
    for number, (member, noted) in enumerate(zip(model.members, told["ensemble"], strict=True)):
        for name, value in member.pixels.network.state_dict().items():
            assert torch.equal(weights.pop(f"{number}.{name}"), value)
        assert noted["box_weight"] == pytest.approx(FUSED.weight)
        assert noted["mean"] == [0.25]
    assert weights == {}
    assert [noted["shift"] for noted in told["ensemble"]] == [pytest.approx([-0.2, 0.2]), pytest.approx([0.05, -0.05])]
    assert told["members"] == 2


def test_a_bundle_of_a_fused_model_gets_a_sentence(fused_checkpoint, tmp_path):
    with pytest.raises(MirstError, match="cannot contain a model that takes a box"):
        export_model(fused_checkpoint, "monai-bundle", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_bad_input_gets_a_sentence_and_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(MirstError, match="--to is pickle; choose onnx, torch-export, safetensors, monai-bundle"):
        export_model(checkpoint, "pickle", tmp_path / "model.pkl")
    with pytest.raises(MirstError, match="is not a checkpoint"):
        export_model(tmp_path / "none", "safetensors", tmp_path / "model")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MirstError, match=r"pip install 'mirst\[onnx\]'"):
        export_model(checkpoint, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
