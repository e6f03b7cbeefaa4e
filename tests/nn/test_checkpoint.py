import pytest
import torch
from safetensors.torch import save_file

from mirst.errors import MirstError
from mirst.nn import ModelCard, build_model, load_model, save_model

CARD = ModelCard(
    model="resnet_tiny",
    drop_max=True,
    channels=1,
    size=32,
    classes=("benign", "malignant"),
    positive="malignant",
    threshold=0.25,
    defense="CE()",
)


def test_round_trip_gives_the_same_logits(tmp_path):
    model = build_model("resnet_tiny", 1, 2, drop_max=True).eval()
    save_model(tmp_path / "model.safetensors", model, CARD)
    loaded, card = load_model(tmp_path / "model.safetensors")
    x = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert card == CARD
    assert not loaded.training
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_foreign_and_broken_files_get_a_sentence(tmp_path):
    foreign, broken = tmp_path / "foreign.safetensors", tmp_path / "broken.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    broken.write_bytes(b"\x00" * 50)
    for path in (foreign, broken, tmp_path / "missing.safetensors"):
        with pytest.raises(MirstError, match="no checkpoint written by mirst"):
            load_model(path)


def test_weights_that_do_not_fit_get_a_sentence(tmp_path):
    save_model(tmp_path / "model.safetensors", build_model("resnet18", 1, 2), CARD)
    with pytest.raises(MirstError, match="do not fit"):
        load_model(tmp_path / "model.safetensors")
