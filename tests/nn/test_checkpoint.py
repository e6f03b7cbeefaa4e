import json
import os
import sys
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from mirst.calibration import Calibration
from mirst.errors import MirstError
from mirst.nn import BoxFusion, build_model, load_model, read_card, save_model
from tests import helpers

CARD = replace(helpers.CARD, threshold=0.25)


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


def test_a_fused_model_keeps_its_box(tmp_path):
    card = replace(CARD, box="fused", bound=0.7, positive="benign")
    model = BoxFusion(build_model("resnet_tiny", 1, 2, drop_max=True), positive=0, bound=0.7).eval()
    model.set_box(helpers.FUSED)
    model.pixel_var.fill_(0.3)
    save_model(tmp_path / "model.safetensors", model, card)
    loaded, read = load_model(tmp_path / "model.safetensors")
    x, _ = helpers.with_boxes(torch.rand(3, 1, 32, 32), torch.zeros(3))
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert (read, read.inputs, CARD.inputs) == (card, 2, 1)
    with pytest.raises(MirstError, match="do not fit"):
        load_model(rewritten(tmp_path / "other.safetensors", box="fused", bound=1.5))


def test_a_card_from_before_boxes_is_read(tmp_path):
    model = build_model("resnet_tiny", 1, 2, drop_max=True)
    old = {key: value for key, value in asdict(CARD).items() if key not in ("box", "bound")}
    save_file(model.state_dict(), tmp_path / "old.safetensors", {"mirst": json.dumps(old)})
    assert load_model(tmp_path / "old.safetensors")[1] == CARD


def test_a_card_keeps_its_calibration_and_one_without_says_so(tmp_path):
    found = Calibration.of([[2.0, 0.1], [0.3, 1.0], [1.0, 1.5]], [0, 1, 1], ["a", "b", "b"])
    save_model(
        tmp_path / "m.safetensors", build_model("resnet_tiny", 1, 2, drop_max=True), replace(CARD, calibration=found)
    )
    assert read_card(tmp_path / "m.safetensors").calibration == found
    old = {key: value for key, value in asdict(CARD).items() if key != "calibration"}
    assert old == CARD.entries() | {"certified": (), "modality": None, "options": {}}
    save_file({"a": torch.zeros(2)}, tmp_path / "old.safetensors", {"mirst": json.dumps(old)})
    assert read_card(tmp_path / "old.safetensors").calibration is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": 1e9},
        {"scores": [[0.5]], "sizes": [[1]]},
        {"scores": [[0.5], [1.5]]},
        {"scores": [[0.5], [float("nan")]]},
        {"sizes": [[1], [0]]},
        {"sizes": [[1], []]},
        {"more": 1},
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(tmp_path, wrong):
    whole = {"temperature": 1.0, "scores": [[0.5], [0.1]], "sizes": [[1], [1]]}
    assert read_card(rewritten(tmp_path / "whole.safetensors", calibration=whole)).calibration.temperature == 1.0
    with pytest.raises(MirstError, match=r"is not a checkpoint written by mirst \(its calibration"):
        read_card(rewritten(tmp_path / "m.safetensors", calibration=whole | wrong))


def test_foreign_and_broken_files_get_a_sentence(tmp_path):
    foreign, broken = tmp_path / "foreign.safetensors", tmp_path / "broken.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    broken.write_bytes(b"\x00" * 50)
    for path in (foreign, broken, tmp_path / "missing.safetensors"):
        with pytest.raises(MirstError, match="not a checkpoint written by mirst"):
            load_model(path)


def test_weights_that_do_not_fit_get_a_sentence(tmp_path):
    save_model(tmp_path / "model.safetensors", build_model("resnet18", 1, 2), CARD)
    with pytest.raises(MirstError, match="do not fit"):
        load_model(tmp_path / "model.safetensors")


def rewritten(path, state=None, **fields):
    """A checkpoint like ours whose card, or whose weights, say something else."""
    model = build_model("resnet_tiny", 1, 2, drop_max=True)
    card = asdict(CARD) | fields
    save_file(state or model.state_dict(), path, {"mirst": json.dumps(card)})
    return path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": 4096}, "its size: "),
        ({"size": 15}, "its size: "),
        ({"size": 32.5}, "its size: "),
        ({"size": "32"}, "its size: "),
        ({"size": True}, "its size: "),
        ({"channels": 2}, "channels are 2"),
        ({"channels": 10**9}, "channels are 1000000000"),
        ({"drop_max": "yes"}, "its drop_max: "),
        ({"classes": ["malignant"]}, "its classes: "),
        ({"classes": [str(i) for i in range(1001)]}, "its classes: "),
        ({"classes": ["malignant", "malignant"]}, "not distinct"),
        ({"classes": ["a", "b"]}, "the positive one is not among them"),
        ({"classes": "ab"}, "its classes: "),
        ({"classes": [1, 2]}, "its classes.0: "),
        ({"classes": ["x" * 201, "malignant"]}, "its classes.0: "),
        ({"classes": ["\x1b[2J", "malignant"]}, "control characters"),
        ({"threshold": float("nan")}, "its threshold: "),
        ({"threshold": float("inf")}, "its threshold: "),
        ({"threshold": None}, "its threshold: "),
        ({"threshold_rule": "x" * 201}, "its threshold_rule: "),
        ({"threshold_rule": "\x1b[2J"}, "control characters"),
        ({"threshold_rule": {"sensitivity": 0.9}}, "its threshold_rule: "),
        ({"defense": "x" * 2001}, "its defense: "),
        ({"box": "mask"}, "its box: "),
        ({"box": "fused"}, "its box is fused, but its bound is None"),
        ({"bound": 1.5}, "its box is none, but its bound is 1.5"),
        ({"box": "fused", "bound": -1.0}, "a bound above 0"),
        ({"box": "fused", "bound": float("inf")}, "its bound"),
        ({"box": "fused", "bound": 1.5, "classes": ["a", "b", "malignant"]}, "needs two classes"),
        ({"model": ""}, "its model: "),
        ({"extra": 1}, "its extra: "),
        ({"model": [[]]}, "its model: "),
    ],
)
def test_every_field_of_a_card_is_bounded(tmp_path, fields, words):
    with pytest.raises(MirstError, match=words) as caught:
        load_model(rewritten(tmp_path / "m.safetensors", **fields))
    assert len(str(caught.value)) < 400


def test_a_card_of_an_older_version_names_no_rule_of_its_threshold(tmp_path):
    card = {key: value for key, value in asdict(CARD).items() if key != "threshold_rule"}
    weights = build_model("resnet_tiny", 1, 2, drop_max=True).state_dict()
    save_file(weights, tmp_path / "m.safetensors", {"mirst": json.dumps(card)})
    assert load_model(tmp_path / "m.safetensors")[1] == replace(CARD, threshold_rule=None)


def test_a_card_that_is_no_object_gets_a_sentence(tmp_path):
    for text in ("[" * 100_000, "[]", "{", "1" * 10_000, "\ud800"):
        save_file(
            {"a": torch.zeros(2)}, tmp_path / "m.safetensors", {"mirst": text.encode("utf-8", "replace").decode()}
        )
        with pytest.raises(MirstError, match="not a checkpoint written by mirst"):
            read_card(tmp_path / "m.safetensors")


def test_a_header_is_bounded_before_it_is_parsed(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = ",".join(f'"{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(90_000))
    header = f"{{{tensors}}}".encode()
    for length, content in ((len(header), header), (2**62, b"{}"), (100, b"{}")):
        path.write_bytes(length.to_bytes(8, "little") + content)
        with pytest.raises(MirstError, match=r"its header declares|InvalidHeader|header"):
            load_model(path)
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path, tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(MirstError, match="is a folder" if place == tmp_path else "no such file"):
            load_model(place)


def test_names_and_shapes_are_compared_before_a_tensor_is_read(tmp_path):
    state = build_model("resnet_tiny", 1, 2, drop_max=True).state_dict()
    key = "network.conv1.weight"
    for wrong, words in (
        (
            state | {key: torch.zeros(1, 1)},
            rf"1 tensors differ, the first {key}: \(1, 1\) in the file, \(16, 1, 5, 5\)",
        ),
        (state | {"zzz": torch.zeros(1)}, r"the first zzz: \(1,\) in the file, none in the model"),
        ({k: v for k, v in state.items() if k != key}, rf"the first {key}: missing in the file"),
    ):
        with pytest.raises(MirstError, match=words):
            load_model(rewritten(tmp_path / "m.safetensors", wrong))


def test_a_checkpoint_without_counters_of_batches_is_read(tmp_path):
    model = build_model("resnet_tiny", 1, 2, drop_max=True).eval()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    loaded, _ = load_model(rewritten(tmp_path / "m.safetensors", state))
    x = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """The name of a factory in the working directory whose import leaves a trace, and the trace."""
    (tmp_path / "strangers_net.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\nfrom mirst.nn import build_model\n"
        "def make(in_channels, num_classes):\n    return build_model('resnet_tiny', in_channels, num_classes)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "strangers_net:make", tmp_path / "ran"
    sys.modules.pop("strangers_net", None)


def test_a_checkpoint_runs_no_code_unless_it_is_trusted_by_name(tmp_path, factory):
    name, ran = factory
    path = rewritten(tmp_path / "m.safetensors", model=name)
    for trusted in (None, "", "os:system", "strangers_net:other"):
        with pytest.raises(
            MirstError, match=r"needs a model built by strangers_net:make, .*--trust strangers_net:make"
        ):
            load_model(path, trusted)
    assert not ran.exists()
    model, card = load_model(path, name)
    assert ran.exists()
    assert card.model == name
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 2)


def test_an_unknown_model_gets_a_sentence(tmp_path):
    with pytest.raises(MirstError, match="unknown model"):
        load_model(rewritten(tmp_path / "m.safetensors", model="resnet51"), "resnet51")
