import hashlib
import io
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import mirst.nn.backbone
from mirst.errors import MirstError
from mirst.nn import ModelCard, build_model, load_backbone, replace_head, save_backbone, save_model
from tests.server import serving


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
    loaded = load_backbone(model, path)
    assert (loaded.matched, loaded.of) == (len(state) - 2, len(state) - 2)
    assert loaded.unused == ("fc.bias", "fc.weight")
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(model.network.conv1.weight, source.network.conv1.weight)
    assert torch.equal(model.network.fc.weight, head)


def without_counters(state):
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("wrap", ["plain", "wrapped", "prefixed", "legacy", "safetensors", "no suffix", "other suffix"])
def test_state_dicts_without_counters_load(tmp_path, wrap):
    """Files of PyTorch before 0.4.1, and of many converters, lack `num_batches_tracked`."""
    source, model = build_model("resnet_tiny", 1, 2), build_model("resnet_tiny", 1, 2)
    state, path = without_counters(source.network.state_dict()), tmp_path / "weights.pth"
    assert len(state) < len(source.network.state_dict())
    if wrap in ("safetensors", "no suffix", "other suffix"):
        path = tmp_path / {"safetensors": "w.safetensors", "no suffix": "w", "other suffix": "w.bin"}[wrap]
        save_file(state, path)
    elif wrap == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif wrap == "wrapped":
        torch.save({"state_dict": state}, path)
    else:
        torch.save({("module." if wrap == "prefixed" else "") + key: value for key, value in state.items()}, path)
    loaded = load_backbone(model, path)
    assert loaded.matched == loaded.of == len(state) - 2
    own = model.network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items() if not key.startswith("fc."))


def test_other_buffers_are_still_needed(tmp_path):
    state = build_model("resnet_tiny", 1, 2).network.state_dict()
    for missing in ("running_mean", "running_var"):
        save_file({k: v for k, v in state.items() if not k.endswith(missing)}, tmp_path / "w.safetensors")
        with pytest.raises(MirstError, match=rf"lacks .*{missing}"):
            load_backbone(build_model("resnet_tiny", 1, 2), tmp_path / "w.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_git_lfs_pointer_gives_an_error_with_the_fix(tmp_path, suffix):
    (tmp_path / f"w{suffix}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(MirstError, match="run git lfs pull"):
        load_backbone(build_model("resnet_tiny", 1, 2), tmp_path / f"w{suffix}")


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


def test_a_saved_backbone_is_one_to_start_from(tmp_path):
    source, model = build_model("resnet_tiny", 1, 2), build_model("resnet_tiny", 1, 3)
    save_backbone(tmp_path / "b.safetensors", source)
    loaded = load_backbone(model, tmp_path / "b.safetensors")
    assert loaded.unused == ()
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, source.network.state_dict()[key]) or key.startswith("fc.")


def test_wrapped_and_prefixed_state_dicts_are_understood(tmp_path):
    source = build_model("resnet_tiny", 1, 2)
    state = {f"module.encoder.{key}": value for key, value in source.network.state_dict().items()}
    torch.save({"epoch": 90, "state_dict": state}, tmp_path / "wrapped.pth")
    card = ModelCard(
        model="resnet_tiny", drop_max=False, channels=1, size=32, classes=("a", "b"), positive="b", threshold=0.0,
        defense="CE()",
    )  # fmt: skip
    save_model(tmp_path / "ours.safetensors", source, card)
    for name in ("wrapped.pth", "ours.safetensors"):
        model = build_model("resnet_tiny", 1, 2)
        loaded = load_backbone(model, tmp_path / name)
        assert loaded.matched == loaded.of
        assert torch.equal(model.network.conv1.weight, source.network.conv1.weight)


@pytest.fixture
def imagenet(monkeypatch, tmp_path):
    """A server with a checkpoint of the name that its content asks for."""
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "cache"))
    buffer = io.BytesIO()
    torch.save(build_model("resnet_tiny", 1, 1000).network.state_dict(), buffer)
    with serving(buffer.getvalue()) as server:
        digest = hashlib.sha256(server.content).hexdigest()
        monkeypatch.setitem(mirst.nn.backbone.IMAGENET, "resnet_tiny", f"{server.url}/tiny-{digest[:8]}.pth")
        yield server


def start(name="resnet_tiny"):
    return load_backbone(build_model("resnet_tiny", 1, 2), "imagenet", name)


def test_public_weights_are_fetched_once(imagenet):
    first = start()
    assert first.matched == first.of
    assert start() == first
    assert len(imagenet.requests) == 1


def test_public_weights_with_a_wrong_hash_are_refused_and_not_kept(imagenet, tmp_path):
    imagenet.content = imagenet.content[:-1] + b"x"
    with pytest.raises(MirstError, match=r"does not have the checksum sha256:.*--set model\.weights=PATH"):
        start()
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_a_cut_connection_is_one_sentence_and_the_next_try_goes_on(imagenet):
    imagenet.cut = 50_000
    with pytest.raises(MirstError, match="cannot reach"):
        start()
    imagenet.cut = None
    assert start().matched > 0
    assert imagenet.requests[0] is None
    assert imagenet.requests[1].startswith("bytes=")


def test_names_that_stand_for_no_file_say_what_to_do(imagenet, tmp_path):
    with pytest.raises(MirstError, match="imagenet exists for resnet50, resnet18"):
        start("package:factory")
    with pytest.raises(MirstError, match=r"put a converted state dict at .*simclr-imagenet\.safetensors"):
        load_backbone(build_model("resnet_tiny", 1, 2), "simclr-imagenet")
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    save_backbone(tmp_path / "cache" / "weights" / "simclr-imagenet.safetensors", build_model("resnet_tiny", 1, 2))
    assert load_backbone(build_model("resnet_tiny", 1, 2), "simclr-imagenet").matched > 0


def test_a_head_is_replaced_where_there_is_one():
    model = build_model("resnet_tiny", 1, 2)
    replace_head(model, lambda width: nn.Linear(width, 5))
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 5)
    with pytest.raises(MirstError, match="no last layer fc"):
        replace_head(nn.Sequential(nn.Flatten()), nn.Identity)
