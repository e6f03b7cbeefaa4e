import pickle

import pytest
import torch
from safetensors.torch import save_file

from mirst.errors import MirstError
from mirst.nn import ModelCard, build_model, load_backbone, load_model, save_model

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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_backbone_starts_from_a_torchvision_layout_file(tmp_path, suffix):
    source = build_model("resnet_tiny", 1, 7)
    path = tmp_path / f"weights{suffix}"
    state = source.network.state_dict()
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    model = build_model("resnet_tiny", 1, 2)
    head = model.network.fc.weight.clone()
    load_backbone(model, path)
    assert torch.equal(model.network.conv1.weight, source.network.conv1.weight)
    assert torch.equal(model.network.fc.weight, head)


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_weights_are_never_unpickled(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil()))
    torch.save({"a": Evil()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(MirstError, match="cannot be read as a state dict"):
            load_backbone(build_model("resnet_tiny", 1, 2), tmp_path / name)
    assert "unpickled" not in capsys.readouterr().out


def test_a_backbone_that_lacks_weights_is_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(MirstError, match="lacks"):
        load_backbone(build_model("resnet_tiny", 1, 2), tmp_path / "w.safetensors")
    with pytest.raises(MirstError, match="does not exist"):
        load_backbone(build_model("resnet_tiny", 1, 2), tmp_path / "nothing.pth")
